"""The words that every family of synthetic data draws from."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final


def words(text: str) -> tuple[str, ...]:
    """Cut a text at its spaces and line ends."""
    return tuple(text.split())


FEMALE_NAMES: Final = words(
    """Anna Maria Susan Linda Carol Helen Laura Julia Emma Sarah Alice Rachel Diana Nancy Karen
    Emily Grace Clara Rosa Sophie Martha Judith Irene Lucy Jane Ruth Amy Eva Ellen Paula Sandra
    Teresa Monica Angela Donna Janet Joan Marie Nina Olivia Claire Hannah Charlotte Victoria Kate
    Lily Sylvia Vera"""
)
MALE_NAMES: Final = words(
    """Peter John David Robert Thomas Daniel Mark Paul Kevin George Brian Edward Simon Henry Arthur
    Frank Walter Martin Oscar Victor Philip Andrew Stephen Eric Adam Oliver Hugo Leo Carl Albert
    Louis Samuel Jack Harry Charles Patrick Richard Michael Anthony Joseph Tony Bruce Douglas
    Gerald Howard Keith Neil Roger"""
)
NAMES: Final = FEMALE_NAMES + MALE_NAMES

PEOPLE: Final = words(
    """doctor nurse teacher lawyer farmer singer pilot baker writer painter driver banker waiter
    plumber soldier sailor student professor editor reporter actor dancer cook guard clerk judge
    priest coach captain mayor senator minister engineer scientist tailor barber hunter gardener
    merchant inspector detective photographer librarian musician architect carpenter tourist
    neighbor manager secretary poet dentist surgeon butcher builder mechanic bishop general
    colonel ambassador"""
)

THINGS: Final = words(
    """lamp chair table clock mirror carpet blanket basket bottle bucket candle camera radio guitar
    piano violin drum painting statue vase bowl plate kettle knife hammer ladder wallet umbrella
    suitcase backpack jacket coat scarf hat ring necklace bracelet watch book map letter ticket
    box key pen toy doll kite bicycle cart boat tent rope shovel pillow curtain cushion helmet
    notebook telescope"""
)

# A kind and what belongs to it: every X is a Y.
KINDS: Final = MappingProxyType(
    {
        "animal": words(
            """dog cat horse cow pig goat rabbit fox bear lion tiger monkey camel donkey wolf
            elephant squirrel"""
        ),
        "bird": words("duck eagle owl parrot pigeon swan sparrow crow hawk goose robin"),
        "vehicle": words("car truck van bus taxi tractor motorcycle jeep ambulance"),
        "fruit": words("apple banana lemon peach orange melon cherry plum pear mango"),
        "flower": words("rose tulip lily daisy orchid violet sunflower daffodil"),
        "tool": words("hammer saw shovel axe wrench screwdriver drill chisel"),
        "instrument": words("guitar piano violin drum flute trumpet cello harp"),
        "vegetable": words("carrot potato onion cabbage cucumber pepper radish"),
    }
)

COLOURS: Final = words("red blue green white black brown gray yellow purple orange pink")
QUALITIES: Final = words(
    """old new small large heavy light cheap expensive rare broken clean dirty dusty fragile strange
    ugly pretty plain round narrow wide thick thin wooden plastic rusty shiny"""
)

CITIES: Final = words(
    """Paris London Berlin Rome Madrid Vienna Boston Chicago Dallas Denver Seattle Houston Atlanta
    Miami Toronto Montreal Sydney Tokyo Moscow Dublin Oslo Prague Warsaw Athens Cairo Delhi
    Mumbai Shanghai Singapore Lisbon Geneva Munich Hamburg Milan Venice Naples Brussels Amsterdam
    Stockholm Budapest Istanbul Manchester"""
)
REASONS: Final = tuple(
    f"out of {feeling}"
    for feeling in words(
        """pity envy anger love fear kindness boredom jealousy greed spite pride curiosity loyalty
        gratitude revenge habit"""
    )
)
DAYS: Final = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS: Final = words(
    "January February March April June July August September October November December"
)

# What one person does to another: kind deeds and their opposites, as pairs of synonyms. Every one
# also makes sense with the roles exchanged.
DEEDS: Final = tuple(
    tuple(tuple(synonyms.split("/")) for synonyms in opposites.split(":"))
    for opposites in words(
        """praise/commend:criticize/condemn help/assist:hinder/obstruct
        hire/employ:dismiss/fire protect/defend:attack/assault admire/respect:despise/scorn
        rescue/save:abandon/desert trust/believe:doubt/suspect welcome/greet:reject/snub
        comfort/console:upset/distress release/free:arrest/detain support/back:oppose/resist
        forgive/pardon:punish/penalize notice/spot:overlook/ignore
        encourage/inspire:discourage/deter please/delight:annoy/irritate
        honor/celebrate:insult/offend calm/soothe:scare/frighten love/adore:hate/detest
        heal/cure:hurt/injure reward/thank:blame/accuse amuse/entertain:bore/tire
        choose/select:refuse/spurn"""
    )
)

TAKERS: Final = words(  # verbs that need an object, and take a thing
    """admire borrow bring buy fetch damage describe destroy discover find grab inspect lend like
    make mention need carry obtain own possess praise recognize repair replace receive acquire
    handle display want value"""
)
ADVERBS: Final = words(
    """quickly slowly quietly carefully happily sadly calmly eagerly gladly secretly suddenly
    proudly politely nervously gently rudely kindly bravely"""
)

GOOD: Final = words(
    """good great excellent wonderful superb brilliant delightful charming impressive moving funny
    clever fresh beautiful memorable gripping enjoyable convincing elegant witty engaging
    fascinating lovely amazing fantastic terrific thrilling pleasant rewarding masterful
    inspired remarkable satisfying splendid touching exciting original amusing powerful
    strong"""
)
BAD: Final = words(
    """bad terrible awful dull boring tedious weak clumsy silly annoying dreadful horrible lame
    tiresome bland predictable shallow pointless ugly stupid messy sloppy painful forgettable
    disappointing mediocre lifeless confusing ridiculous irritating poor stale dreary pathetic
    unpleasant tasteless hollow miserable lousy crude"""
)
LIKING: Final = words("enjoy love like admire praise recommend appreciate adore")
DISLIKING: Final = words("dislike hate detest regret despise condemn criticize loathe")
WORKS: Final = words(
    """film movie book novel play album show series concert comedy drama documentary thriller
    musical sequel remake cartoon"""
)
ASPECTS: Final = words(
    """plot acting script music ending dialogue cast direction camerawork pacing humor story
    opening soundtrack editing finale premise design writing"""
)
