"""When tasks arrive, and when each is learnt: processes and a virtual clock, both pure."""
