BEGIN TRANSACTION;
CREATE TABLE arrivals (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	sequence INTEGER NOT NULL, 
	provider_id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	method TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT, 
	diff_id INTEGER, 
	started_at DOUBLE NOT NULL, 
	finished_at DOUBLE NOT NULL, 
	n_steps BIGINT NOT NULL, 
	training_seconds DOUBLE NOT NULL, 
	evaluation_seconds DOUBLE NOT NULL, 
	peak_memory_bytes BIGINT NOT NULL, 
	source TEXT NOT NULL, 
	source_detail TEXT NOT NULL, 
	rows_fingerprint TEXT NOT NULL, 
	n_train_rows BIGINT NOT NULL, 
	details JSON NOT NULL, removed_at DOUBLE, 
	CONSTRAINT pk_arrivals PRIMARY KEY (id), 
	CONSTRAINT ck_arrivals_status CHECK ((status = 'finished' AND diff_id IS NOT NULL AND reason IS NULL) OR (status = 'failed' AND diff_id IS NULL AND reason IS NOT NULL)), 
	CONSTRAINT ck_arrivals_amounts CHECK (sequence >= 0 AND version >= 0 AND attempt >= 0 AND n_steps >= 0 AND n_train_rows >= 0 AND peak_memory_bytes >= 0 AND training_seconds >= 0 AND evaluation_seconds >= 0), 
	CONSTRAINT fk_arrivals_run_id FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT fk_arrivals_provider_id FOREIGN KEY(provider_id) REFERENCES providers (id), 
	CONSTRAINT fk_arrivals_task_id FOREIGN KEY(task_id) REFERENCES tasks (id), 
	CONSTRAINT fk_arrivals_diff_id FOREIGN KEY(diff_id) REFERENCES diffs (id)
);
INSERT INTO "arrivals" VALUES(1,1,1,0,1,1,1,'diff_pruning',1,'finished',NULL,1,1000.25,1010.5,189,9.5,0.75,5000000000,'files','glue/sst2','bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e',2000,'{"densities":[0.5,0.005],"stage":{"search":120}}',NULL);
INSERT INTO "arrivals" VALUES(2,1,1,1,2,2,1,'diff_pruning',1,'failed','The loss became NaN at step 7.',NULL,1000.25,1010.5,189,9.5,0.75,5000000000,'generated','glue/sst2','bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e',2000,'{"densities":[0.5,0.005],"stage":{"search":120}}',NULL);
INSERT INTO "arrivals" VALUES(3,1,1,1,2,2,1,'diff_pruning',2,'finished',NULL,2,1000.25,1010.5,189,9.5,0.75,5000000000,'files','glue/sst2','bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e',2000,'{"densities":[0.5,0.005],"stage":{"search":120}}',NULL);
INSERT INTO "arrivals" VALUES(4,1,1,0,1,1,1,'full_finetuning',1,'finished',NULL,3,1000.25,1010.5,189,9.5,0.75,5000000000,'files','glue/sst2','bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e',2000,'{"densities":[0.5,0.005],"stage":{"search":120}}',2000.5);
INSERT INTO "arrivals" VALUES(5,1,2,0,1,1,1,'diff_pruning',1,'finished',NULL,1,1000.25,1010.5,189,9.5,0.75,5000000000,'files','glue/sst2','bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e',2000,'{"densities":[0.5,0.005],"stage":{"search":120}}',NULL);
INSERT INTO "arrivals" VALUES(6,1,2,1,2,3,1,'lora',1,'finished',NULL,4,1000.25,1010.5,189,9.5,0.75,5000000000,'files','glue/sst2','bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e',2000,'{"densities":[0.5,0.005],"stage":{"search":120}}',NULL);
CREATE TABLE bases (
	id INTEGER NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	model TEXT NOT NULL, 
	revision TEXT, 
	layers INTEGER, 
	n_tensors INTEGER NOT NULL, 
	n_parameters BIGINT NOT NULL, 
	weights_bytes BIGINT NOT NULL, 
	file_bytes BIGINT NOT NULL, 
	layout JSON NOT NULL, 
	initialised JSON NOT NULL, 
	added_at DOUBLE NOT NULL, 
	CONSTRAINT pk_bases PRIMARY KEY (id), 
	CONSTRAINT ck_bases_sizes CHECK (n_tensors > 0 AND n_parameters > 0 AND weights_bytes > 0 AND file_bytes > 0), 
	CONSTRAINT uq_bases_fingerprint UNIQUE (fingerprint)
);
INSERT INTO "bases" VALUES(1,'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','package:tiny',NULL,2,3,3000000000,12000000000,12000000800,'[["word.weight",[30,4]],["layer.0.bias",[4]],["scale",[]]]','["layer.0.bias"]',1000.0);
CREATE TABLE diffs (
	id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	base_id INTEGER NOT NULL, 
	value_type VARCHAR(16) NOT NULL, 
	n_gated BIGINT NOT NULL, 
	n_entries BIGINT NOT NULL, 
	n_head_entries BIGINT NOT NULL, 
	file_bytes BIGINT NOT NULL, 
	positions_bytes BIGINT NOT NULL, 
	values_bytes BIGINT NOT NULL, 
	head_bytes BIGINT NOT NULL, 
	metadata_bytes BIGINT NOT NULL, 
	full_checkpoint_bytes BIGINT NOT NULL, 
	tensor_counts BLOB NOT NULL, 
	added_at DOUBLE NOT NULL, 
	CONSTRAINT pk_diffs PRIMARY KEY (id), 
	CONSTRAINT ck_diffs_kind CHECK (kind IN ('diff', 'checkpoint', 'adapter')), 
	CONSTRAINT ck_diffs_entries CHECK (n_entries BETWEEN 0 AND n_gated AND n_head_entries >= 0), 
	CONSTRAINT ck_diffs_bytes CHECK (positions_bytes >= 0 AND values_bytes >= 0 AND head_bytes >= 0 AND metadata_bytes >= 0 AND full_checkpoint_bytes >= 0 AND positions_bytes + values_bytes + head_bytes + metadata_bytes = file_bytes), 
	CONSTRAINT uq_diffs_digest UNIQUE (digest), 
	CONSTRAINT fk_diffs_base_id FOREIGN KEY(base_id) REFERENCES bases (id)
);
INSERT INTO "diffs" VALUES(1,'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb','diff',1,'bf16',128,7,10,100,30,14,40,16,1000,X'789C636180006620060000480008',1011.0);
INSERT INTO "diffs" VALUES(2,'3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d','diff',1,'bf16',128,7,10,100,30,14,40,16,1000,X'789C636180006620060000480008',1011.0);
INSERT INTO "diffs" VALUES(3,'5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099','checkpoint',1,'bf16',128,7,10,100,30,14,40,16,1000,X'789C030000000001',1011.0);
INSERT INTO "diffs" VALUES(4,'5955c3def60cffc2030cd0f0ad5af68dc17369223692665e0bfc44bcba4805c4','adapter',1,'fp32',128,7,10,100,30,14,40,16,1000,X'789C636180006620060000480008',1100.0);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	subject TEXT NOT NULL, 
	message TEXT NOT NULL, 
	version VARCHAR(64) NOT NULL, digest VARCHAR(64), 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,1000.0,'base-added','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','package:tiny','0.1.0',NULL);
INSERT INTO "events" VALUES(2,1000.0,'run-started','glue-1','','0.1.0',NULL);
INSERT INTO "events" VALUES(3,1011.0,'arrival-finished','1','ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb, 100 bytes','0.1.0',NULL);
INSERT INTO "events" VALUES(4,1011.0,'arrival-failed','2','The loss became NaN at step 7.','0.1.0',NULL);
INSERT INTO "events" VALUES(5,1011.0,'arrival-finished','3','3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d, 100 bytes','0.1.0',NULL);
INSERT INTO "events" VALUES(6,1011.0,'arrival-finished','4','5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099, 100 bytes','0.1.0',NULL);
INSERT INTO "events" VALUES(7,1011.0,'arrival-finished','5','ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb, 100 bytes','0.1.0',NULL);
INSERT INTO "events" VALUES(8,1011.0,'scores-added','1','1 scores','0.1.0',NULL);
INSERT INTO "events" VALUES(9,1011.0,'run-finished','glue-1','','0.1.0',NULL);
INSERT INTO "events" VALUES(10,1011.0,'run-started','tiny-1','','0.1.0',NULL);
INSERT INTO "events" VALUES(11,1011.0,'run-interrupted','tiny-1','stopped from outside','0.1.0',NULL);
INSERT INTO "events" VALUES(12,1011.0,'note','me','it''s a line; with ''quotes'' and — dashes','0.1.0',NULL);
INSERT INTO "events" VALUES(13,1100.0,'arrival-finished','6','100 bytes','0.1.0','5955c3def60cffc2030cd0f0ad5af68dc17369223692665e0bfc44bcba4805c4');
CREATE TABLE providers (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	CONSTRAINT pk_providers PRIMARY KEY (id), 
	CONSTRAINT ck_providers_name CHECK (name <> ''), 
	CONSTRAINT uq_providers_name UNIQUE (name)
);
INSERT INTO "providers" VALUES(1,'reviews_inc');
INSERT INTO "providers" VALUES(2,'newswire');
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	scenario_name TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	scenario JSON NOT NULL, 
	scenario_digest VARCHAR(64) NOT NULL, 
	base_id INTEGER NOT NULL, 
	environment JSON NOT NULL, 
	n_expected INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT, 
	started_at DOUBLE NOT NULL, 
	heartbeat_at DOUBLE NOT NULL, 
	finished_at DOUBLE, 
	host TEXT NOT NULL, 
	pid BIGINT NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT uq_runs_scenario_name_number UNIQUE (scenario_name, number), 
	CONSTRAINT ck_runs_status CHECK (status IN ('running', 'finished', 'failed', 'interrupted')), 
	CONSTRAINT ck_runs_finished_at CHECK ((status = 'running' AND finished_at IS NULL) OR (status <> 'running' AND finished_at IS NOT NULL)), 
	CONSTRAINT ck_runs_counts CHECK (number > 0 AND n_expected >= 0), 
	CONSTRAINT uq_runs_name UNIQUE (name), 
	CONSTRAINT fk_runs_base_id FOREIGN KEY(base_id) REFERENCES bases (id)
);
INSERT INTO "runs" VALUES(1,'glue-1','glue',1,'{"name":"glue","nested":{"target_density":0.005},"seeds":[1]}','99552de9998a2b8267df80b5984342437dda324689e2d7c6b6a0c8a7f392ffb5',1,'{"threads":"2","torch":"2.13.0"}',4,'finished',NULL,1000.0,1000.0,1011.0,'a-host',4242);
INSERT INTO "runs" VALUES(2,'tiny-1','tiny',1,'{"name":"glue","nested":{"target_density":0.005},"seeds":[1]}','99552de9998a2b8267df80b5984342437dda324689e2d7c6b6a0c8a7f392ffb5',1,'{"threads":"2","torch":"2.13.0"}',1,'interrupted','stopped from outside',1011.0,1011.0,1011.0,'a-host',4242);
CREATE TABLE scores (
	id INTEGER NOT NULL, 
	arrival_id INTEGER NOT NULL, 
	metric VARCHAR(64) NOT NULL, 
	value DOUBLE NOT NULL, 
	split VARCHAR(64) NOT NULL, 
	n_rows BIGINT NOT NULL, 
	after_sequence INTEGER NOT NULL, 
	is_primary BOOLEAN NOT NULL, 
	added_at DOUBLE NOT NULL, 
	CONSTRAINT pk_scores PRIMARY KEY (id), 
	CONSTRAINT uq_scores_arrival_id_after_sequence_split_metric UNIQUE (arrival_id, after_sequence, split, metric), 
	CONSTRAINT ck_scores_counts CHECK (n_rows > 0 AND after_sequence >= 0), 
	CONSTRAINT fk_scores_arrival_id FOREIGN KEY(arrival_id) REFERENCES arrivals (id)
);
INSERT INTO "scores" VALUES(1,1,'accuracy',0.875,'dev',872,0,1,1011.0);
INSERT INTO "scores" VALUES(2,1,'f1',0.5,'dev',872,0,0,1011.0);
INSERT INTO "scores" VALUES(3,3,'accuracy',0.875,'dev',872,1,1,1011.0);
INSERT INTO "scores" VALUES(4,5,'accuracy',0.75,'dev',872,0,1,1011.0);
INSERT INTO "scores" VALUES(5,1,'accuracy',0.8125,'dev',872,1,1,1011.0);
INSERT INTO "scores" VALUES(6,6,'accuracy',0.875,'dev',872,1,1,1100.0);
ANALYZE "sqlite_master";
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_run','1000000 10000 2000 2 1 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_task','1000000 5000 100 20 2 1 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_provider','1000000 1000 100 20 2 1 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_method','1000000 250000 2500 500 1 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_status','1000000 1000 10 2 2 1 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_diff','1000000 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_run_diff','1000000 10000 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','uq_arrivals_finished','1000000 10000 2000 2 2 1 1');
INSERT INTO "sqlite_stat1" VALUES('arrivals','ix_arrivals_removed','1000 2 1');
CREATE TABLE streamlab_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT streamlab_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "streamlab_version" VALUES('0003');
CREATE TABLE tags (
	id INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	run_id INTEGER, 
	arrival_id INTEGER, 
	diff_id INTEGER, 
	added_at DOUBLE NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (id), 
	CONSTRAINT uq_tags_kind_name UNIQUE (kind, name), 
	CONSTRAINT ck_tags_name CHECK (name <> ''), 
	CONSTRAINT ck_tags_kind CHECK ((kind = 'run' AND run_id IS NOT NULL AND arrival_id IS NULL AND diff_id IS NULL) OR (kind = 'arrival' AND arrival_id IS NOT NULL AND run_id IS NULL AND diff_id IS NULL) OR (kind = 'diff' AND diff_id IS NOT NULL AND run_id IS NULL AND arrival_id IS NULL)), 
	CONSTRAINT fk_tags_run_id FOREIGN KEY(run_id) REFERENCES runs (id), 
	CONSTRAINT fk_tags_arrival_id FOREIGN KEY(arrival_id) REFERENCES arrivals (id), 
	CONSTRAINT fk_tags_diff_id FOREIGN KEY(diff_id) REFERENCES diffs (id)
);
INSERT INTO "tags" VALUES(1,'run','best',1,NULL,NULL,1234.5);
CREATE TABLE tasks (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	CONSTRAINT pk_tasks PRIMARY KEY (id), 
	CONSTRAINT ck_tasks_name CHECK (name <> ''), 
	CONSTRAINT uq_tasks_name UNIQUE (name)
);
INSERT INTO "tasks" VALUES(1,'sst2');
INSERT INTO "tasks" VALUES(2,'mrpc');
INSERT INTO "tasks" VALUES(3,'rte');
CREATE TABLE totals (
	id INTEGER NOT NULL, 
	grouping VARCHAR(16) NOT NULL, 
	"key" TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	n_arrivals BIGINT NOT NULL, 
	n_files BIGINT NOT NULL, 
	positions_bytes BIGINT NOT NULL, 
	values_bytes BIGINT NOT NULL, 
	head_bytes BIGINT NOT NULL, 
	metadata_bytes BIGINT NOT NULL, 
	stored_positions_bytes BIGINT NOT NULL, 
	stored_values_bytes BIGINT NOT NULL, 
	stored_head_bytes BIGINT NOT NULL, 
	stored_metadata_bytes BIGINT NOT NULL, 
	CONSTRAINT pk_totals PRIMARY KEY (id), 
	CONSTRAINT uq_totals_grouping_key_kind UNIQUE (grouping, "key", kind), 
	CONSTRAINT ck_totals_grouping CHECK (grouping IN ('all', 'run', 'task', 'provider', 'method')), 
	CONSTRAINT ck_totals_kind CHECK (kind IN ('diff', 'checkpoint', 'adapter', 'failed'))
);
INSERT INTO "totals" VALUES(1,'all','','diff',3,2,90,42,120,48,60,28,80,32);
INSERT INTO "totals" VALUES(2,'all','','failed',1,0,0,0,0,0,0,0,0,0);
INSERT INTO "totals" VALUES(3,'run','1','diff',3,2,90,42,120,48,60,28,80,32);
INSERT INTO "totals" VALUES(4,'run','1','failed',1,0,0,0,0,0,0,0,0,0);
INSERT INTO "totals" VALUES(5,'task','1','diff',2,1,60,28,80,32,30,14,40,16);
INSERT INTO "totals" VALUES(6,'task','2','diff',1,1,30,14,40,16,30,14,40,16);
INSERT INTO "totals" VALUES(7,'task','2','failed',1,0,0,0,0,0,0,0,0,0);
INSERT INTO "totals" VALUES(8,'provider','1','diff',2,1,60,28,80,32,30,14,40,16);
INSERT INTO "totals" VALUES(9,'provider','2','diff',1,1,30,14,40,16,30,14,40,16);
INSERT INTO "totals" VALUES(10,'provider','2','failed',1,0,0,0,0,0,0,0,0,0);
INSERT INTO "totals" VALUES(11,'method','diff_pruning','diff',3,2,90,42,120,48,60,28,80,32);
INSERT INTO "totals" VALUES(12,'method','diff_pruning','failed',1,0,0,0,0,0,0,0,0,0);
INSERT INTO "totals" VALUES(13,'all','','adapter',1,1,30,14,40,16,30,14,40,16);
INSERT INTO "totals" VALUES(14,'run','1','adapter',1,1,30,14,40,16,30,14,40,16);
INSERT INTO "totals" VALUES(15,'task','3','adapter',1,1,30,14,40,16,30,14,40,16);
INSERT INTO "totals" VALUES(16,'provider','2','adapter',1,1,30,14,40,16,30,14,40,16);
INSERT INTO "totals" VALUES(17,'method','lora','adapter',1,1,30,14,40,16,30,14,40,16);
CREATE INDEX ix_runs_scenario_digest ON runs (scenario_digest, id);
CREATE INDEX ix_arrivals_run ON arrivals (run_id, seed, sequence, method, id);
CREATE INDEX ix_arrivals_task ON arrivals (task_id, run_id, seed, sequence, method, id);
CREATE INDEX ix_arrivals_provider ON arrivals (provider_id, run_id, seed, sequence, method, id);
CREATE INDEX ix_arrivals_method ON arrivals (method, run_id, seed, sequence, id);
CREATE INDEX ix_arrivals_status ON arrivals (status, run_id, seed, sequence, method, id);
CREATE INDEX ix_arrivals_diff ON arrivals (diff_id);
CREATE INDEX ix_arrivals_run_diff ON arrivals (run_id, diff_id);
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the log of events is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the log of events is append-only'); END;
CREATE UNIQUE INDEX uq_arrivals_finished ON arrivals (run_id, seed, provider_id, task_id, version, method) WHERE status = 'finished' AND removed_at IS NULL;
CREATE INDEX ix_arrivals_removed ON arrivals (removed_at, diff_id) WHERE removed_at IS NOT NULL;
CREATE INDEX ix_tags_arrival ON tags (arrival_id);
CREATE INDEX ix_tags_diff ON tags (diff_id);
CREATE TRIGGER totals_added AFTER INSERT ON arrivals WHEN NEW.removed_at IS NULL BEGIN INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'all', '', coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL ) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'run', NEW.run_id, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.run_id = NEW.run_id) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'task', NEW.task_id, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.task_id = NEW.task_id) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'provider', NEW.provider_id, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.provider_id = NEW.provider_id) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'method', NEW.method, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.method = NEW.method) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; END;
CREATE TRIGGER totals_deleted AFTER DELETE ON arrivals WHEN OLD.removed_at IS NULL BEGIN INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'all', '', coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL ) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'run', OLD.run_id, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.run_id = OLD.run_id) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'task', OLD.task_id, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.task_id = OLD.task_id) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'provider', OLD.provider_id, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.provider_id = OLD.provider_id) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'method', OLD.method, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.method = OLD.method) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; END;
CREATE TRIGGER totals_before AFTER UPDATE ON arrivals WHEN OLD.removed_at IS NULL BEGIN INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'all', '', coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL ) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'run', OLD.run_id, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.run_id = OLD.run_id) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'task', OLD.task_id, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.task_id = OLD.task_id) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'provider', OLD.provider_id, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.provider_id = OLD.provider_id) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'method', OLD.method, coalesce(diffs.kind, 'failed'), - 1, - met.first, - coalesce(diffs.positions_bytes, 0), - coalesce(diffs.values_bytes, 0), - coalesce(diffs.head_bytes, 0), - coalesce(diffs.metadata_bytes, 0), - met.first * coalesce(diffs.positions_bytes, 0), - met.first * coalesce(diffs.values_bytes, 0), - met.first * coalesce(diffs.head_bytes, 0), - met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT OLD.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = OLD.diff_id AND other.id <> OLD.id AND other.removed_at IS NULL AND other.method = OLD.method) AS first) AS met LEFT JOIN diffs ON diffs.id = OLD.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; END;
CREATE TRIGGER totals_after AFTER UPDATE ON arrivals WHEN NEW.removed_at IS NULL BEGIN INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'all', '', coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL ) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'run', NEW.run_id, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.run_id = NEW.run_id) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'task', NEW.task_id, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.task_id = NEW.task_id) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'provider', NEW.provider_id, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.provider_id = NEW.provider_id) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; INSERT INTO totals (grouping, key, kind, n_arrivals, n_files, positions_bytes, values_bytes, head_bytes, metadata_bytes, stored_positions_bytes, stored_values_bytes, stored_head_bytes, stored_metadata_bytes) SELECT 'method', NEW.method, coalesce(diffs.kind, 'failed'), + 1, + met.first, + coalesce(diffs.positions_bytes, 0), + coalesce(diffs.values_bytes, 0), + coalesce(diffs.head_bytes, 0), + coalesce(diffs.metadata_bytes, 0), + met.first * coalesce(diffs.positions_bytes, 0), + met.first * coalesce(diffs.values_bytes, 0), + met.first * coalesce(diffs.head_bytes, 0), + met.first * coalesce(diffs.metadata_bytes, 0) FROM (SELECT NEW.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other WHERE other.diff_id = NEW.diff_id AND other.id <> NEW.id AND other.removed_at IS NULL AND other.method = NEW.method) AS first) AS met LEFT JOIN diffs ON diffs.id = NEW.diff_id WHERE true ON CONFLICT (grouping, key, kind) DO UPDATE SET n_arrivals = n_arrivals + excluded.n_arrivals, n_files = n_files + excluded.n_files, positions_bytes = positions_bytes + excluded.positions_bytes, values_bytes = values_bytes + excluded.values_bytes, head_bytes = head_bytes + excluded.head_bytes, metadata_bytes = metadata_bytes + excluded.metadata_bytes, stored_positions_bytes = stored_positions_bytes + excluded.stored_positions_bytes, stored_values_bytes = stored_values_bytes + excluded.stored_values_bytes, stored_head_bytes = stored_head_bytes + excluded.stored_head_bytes, stored_metadata_bytes = stored_metadata_bytes + excluded.stored_metadata_bytes; END;
COMMIT;
