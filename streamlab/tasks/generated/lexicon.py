"""The words that every family of generated rows draws from."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

FEMALE_NAMES: Final = tuple(
    """Anna Maria Susan Linda Carol Helen Laura Julia Emma Sarah Alice Rachel Diana Nancy Karen Emily
    Grace Clara Rosa Sophie Martha Judith Irene Lucy Jane Ruth Amy Eva Ellen Paula Sandra Teresa
    Monica Angela Donna Janet Joan Marie Nina Olivia Claire Hannah Charlotte Victoria Kate Lily
    Sylvia Vera""".split()
)
MALE_NAMES: Final = tuple(
    """Peter John David Robert Thomas Daniel Mark Paul Kevin George Brian Edward Simon Henry Arthur
    Frank Walter Martin Oscar Victor Philip Andrew Stephen Eric Adam Oliver Hugo Leo Carl Albert
    Louis Samuel Jack Harry Charles Patrick Richard Michael Anthony Joseph Tony Bruce Douglas
    Gerald Howard Keith Neil Roger""".split()
)
NAMES: Final = FEMALE_NAMES + MALE_NAMES

PEOPLE: Final = tuple(
    """doctor nurse teacher lawyer farmer singer pilot baker writer painter driver banker waiter
    plumber soldier sailor student professor editor reporter actor dancer cook guard clerk judge
    priest coach captain mayor senator minister engineer scientist tailor barber hunter gardener
    merchant inspector detective photographer librarian musician architect carpenter tourist
    neighbor manager secretary poet dentist surgeon butcher builder mechanic bishop general
    colonel ambassador""".split()
)

THINGS: Final = tuple(
    """lamp chair table clock mirror carpet blanket basket bottle bucket candle camera radio guitar
    piano violin drum painting statue vase bowl plate kettle knife hammer ladder wallet umbrella
    suitcase backpack jacket coat scarf hat ring necklace bracelet watch book map letter ticket
    box key pen toy doll kite bicycle cart boat tent rope shovel pillow curtain cushion helmet
    notebook telescope""".split()
)

# A kind and what belongs to it: every X is a Y.
KINDS: Final = MappingProxyType(
    {
        "animal": tuple(
            """dog cat horse cow pig goat rabbit fox bear lion tiger monkey camel donkey wolf
            elephant squirrel""".split()
        ),
        "bird": tuple("duck eagle owl parrot pigeon swan sparrow crow hawk goose robin".split()),
        "vehicle": tuple("car truck van bus taxi tractor motorcycle jeep ambulance".split()),
        "fruit": tuple("apple banana lemon peach orange melon cherry plum pear mango".split()),
        "flower": tuple("rose tulip lily daisy orchid violet sunflower daffodil".split()),
        "tool": tuple("hammer saw shovel axe wrench screwdriver drill chisel".split()),
        "instrument": tuple("guitar piano violin drum flute trumpet cello harp".split()),
        "vegetable": tuple("carrot potato onion cabbage cucumber pepper radish".split()),
    }
)

COLOURS: Final = tuple("red blue green white black brown gray yellow purple orange pink".split())
QUALITIES: Final = tuple(
    """old new small large heavy light cheap expensive rare broken clean dirty dusty fragile strange
    ugly pretty plain round narrow wide thick thin wooden plastic rusty shiny""".split()
)

CITIES: Final = tuple(
    """Paris London Berlin Rome Madrid Vienna Boston Chicago Dallas Denver Seattle Houston Atlanta
    Miami Toronto Montreal Sydney Tokyo Moscow Dublin Oslo Prague Warsaw Athens Cairo Delhi
    Mumbai Shanghai Singapore Lisbon Geneva Munich Hamburg Milan Venice Naples Brussels Amsterdam
    Stockholm Budapest Istanbul Manchester""".split()
)
DAYS: Final = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS: Final = tuple(
    "January February March April June July August September October November December".split()
)

# What one person does to another, as pairs of synonyms; every one also makes sense reversed.
SYNONYMS: Final = tuple(
    tuple(pair.split("/"))
    for pair in """praise/commend criticize/condemn help/assist hire/employ dismiss/fire
    attack/assault call/phone admire/respect rescue/save accuse/blame beat/defeat chase/pursue
    injure/hurt kill/murder warn/alert catch/capture question/interrogate deceive/trick
    mock/ridicule select/choose support/back teach/instruct contact/approach greet/welcome
    threaten/intimidate arrest/detain finance/fund watch/observe comfort/console insult/offend
    scare/frighten pardon/forgive entertain/amuse push/shove annoy/irritate invite/ask
    honor/celebrate ignore/neglect despise/hate consult/advise""".split()
)

SLEEPERS: Final = tuple(  # verbs that take no object
    """sleep smile arrive cough faint kneel laugh nod shiver sneeze snore tremble vanish weep yawn
    blush complain disappear collapse fall gossip giggle hesitate retire stumble wander sigh
    chat relax emerge exist frown""".split()
)
TAKERS: Final = tuple(  # verbs that need an object, and take a thing
    """admire borrow bring buy choose damage describe destroy discover find grab inspect lend like
    lose make mention need notice obtain own possess praise recognize repair replace sell
    want value steal""".split()
)
ADVERBS: Final = tuple(
    """quickly slowly quietly carefully happily sadly calmly eagerly gladly secretly suddenly
    proudly politely nervously gently rudely kindly bravely""".split()
)

GOOD: Final = tuple(
    """good great excellent wonderful superb brilliant delightful charming impressive moving funny
    clever fresh beautiful memorable gripping enjoyable convincing elegant witty engaging
    fascinating lovely amazing fantastic terrific thrilling pleasant rewarding masterful
    inspired remarkable satisfying splendid touching exciting original amusing powerful
    strong""".split()
)
BAD: Final = tuple(
    """bad terrible awful dull boring tedious weak clumsy silly annoying dreadful horrible lame
    tiresome bland predictable shallow pointless ugly stupid messy sloppy painful forgettable
    disappointing mediocre lifeless confusing ridiculous irritating poor stale dreary pathetic
    unpleasant tasteless hollow miserable lousy crude""".split()
)
LIKING: Final = tuple("enjoy love like admire praise recommend appreciate adore".split())
DISLIKING: Final = tuple("dislike hate detest regret despise condemn criticize loathe".split())
WORKS: Final = tuple(
    """film movie book novel play album show series concert comedy drama documentary thriller
    musical sequel remake cartoon""".split()
)
ASPECTS: Final = tuple(
    """plot acting script music ending dialogue cast direction camerawork pacing humor story
    opening soundtrack editing finale premise design writing""".split()
)
