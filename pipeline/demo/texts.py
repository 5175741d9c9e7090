"""What the demo's podcast says: short original texts, one sentence per string, dedicated to the public domain (CC0).

They share neither topic nor sentences, so no two of them look like copies of one another, and each is read by a voice
of its own. Sentences are short enough to be one subtitle.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Script:
    """One episode to be read: `name` is its place on the site, `voice` one of espeak-ng's, `speed_wpm` words/min."""

    name: str
    title: str
    voice: str
    speed_wpm: int
    pitch: int
    sentences: tuple[str, ...]


GOOD = (
    Script(
        name="lighthouse",
        title="The Lamp on the Rock",
        voice="en-us",
        speed_wpm=165,
        pitch=48,
        sentences=(
            "For ninety years, the lighthouse on Gull Rock was never dark for a single night.",
            "The keeper climbed two hundred and six steps at dusk, trimmed the wick, and lit the lamp.",
            "Then he wound the clockwork that turned the lens, and he wound it again every four hours.",
            "The lens itself was taller than a man, and it floated in a bath of mercury.",
            "A child could push it around with one finger.",
            "When the electric light came, nobody had to stay awake any more.",
            "But the last keeper, Mrs. Harlow, told me that she still woke at midnight, and again at four.",
            "“My hands,” she said, “were looking for the crank.”",
        ),
    ),
    Script(
        name="bread",
        title="Why Bread Rises",
        voice="en-us+f3",
        speed_wpm=170,
        pitch=55,
        sentences=(
            "Bread is mostly patience, with a little flour and water.",
            "When you knead the dough, two proteins join hands and make a stretchy net called gluten.",
            "Meanwhile, the yeast is eating sugar and breathing out gas.",
            "The net catches that gas, and so the loaf swells like a slow balloon.",
            "If you hurry it in a warm kitchen, you will get height, but not much flavor.",
            "Leave it overnight in the fridge instead, and something sour and lovely happens.",
            "My neighbor bakes at five in the morning, and the whole stairwell smells of crust.",
            "Nobody in our building has ever complained about the noise of her mixer.",
        ),
    ),
    Script(
        name="weather",
        title="A Red Sky at Night",
        voice="en",
        speed_wpm=160,
        pitch=45,
        sentences=(
            "Red sky at night, shepherd's delight; you have probably heard that one.",
            "In these islands, it turns out to be right more often than not.",
            "Our weather usually arrives from the west, and the evening sun shines from there as well.",
            "If the sunset is red, then the air over the sea is dry and full of dust, and rain is far away.",
            "A red dawn says the opposite: the good air has already passed.",
            "Cows lying down, I am sorry to report, predict nothing at all.",
            "I checked that for a whole summer with a notebook and a pair of binoculars.",
            "The cows were polite about it, and it rained on forty-one days.",
        ),
    ),
    Script(
        name="night-bus",
        title="The Night Bus",
        voice="en-gb-x-rp+m3",
        speed_wpm=175,
        pitch=42,
        sentences=(
            "The number eleven leaves the depot at ten past one, whether anyone is waiting or not.",
            "Its driver, Mr. Osei, has done this route for nineteen years.",
            "He knows the nurses by their shoes and the bakers by their sleeves.",
            "On Fridays there are students, who sing; on Sundays there is almost nobody.",
            "Once, a fox got on at the hospital and got off again two stops later.",
            "“She didn't pay,” he says, “but she didn't put her feet on the seats either.”",
            "At half past five, the first tram goes by with its windows lit.",
            "Then he parks, drinks his tea, and reads yesterday's paper until the city is awake.",
        ),
    ),
    Script(
        name="beekeeping",
        title="Listening to Bees",
        voice="en-gb-scotland+f2",
        speed_wpm=165,
        pitch=58,
        sentences=(
            "Before you open a hive, put your ear against the wood and listen.",
            "A calm colony hums on one low note, rather like a refrigerator.",
            "A colony without a queen sounds different; it moans, and the pitch wanders.",
            "Beekeepers have known this for centuries, although few could say how they knew.",
            "Last spring, our club hung small microphones in thirty hives.",
            "We could tell which ones would swarm nearly three days before they did.",
            "It felt a bit like cheating, so we still listen with our ears first.",
            "Wear a veil, move slowly, and never, ever eat a banana beforehand.",
        ),
    ),
    Script(
        name="maps",
        title="The Town That Wasn't There",
        voice="en-us+m7",
        speed_wpm=168,
        pitch=46,
        sentences=(
            "In the nineteen thirties, two mapmakers invented a town called Agloe.",
            "It was a trap: if another company's map showed Agloe, they must have copied it.",
            "And a few years later, sure enough, there it was on a rival's road map.",
            "The mapmakers went to court, quite certain that they had won.",
            "But the rival had an answer that nobody expected.",
            "A man had seen the name on the map, supposed that it was real, and built a store there.",
            "He had called it the Agloe General Store.",
            "So the town existed after all, because a map had said so.",
        ),
    ),
    Script(
        name="piano",
        title="Tuning by Ear",
        voice="en-029+f4",
        speed_wpm=170,
        pitch=52,
        sentences=(
            "A piano has about two hundred and thirty strings, and every one of them wants to go flat.",
            "I start in the middle, with a single fork that sings an A.",
            "From there I tune in fifths, but I make each of them very slightly wrong.",
            "That's the secret: if every fifth were pure, the last one would howl.",
            "So we spread the error around until no one can hear it.",
            "It takes me ninety minutes, and afterwards I play one slow hymn.",
            "Customers think that the hymn is a test, and I let them think so.",
            "Really, it's the only pay that I look forward to.",
        ),
    ),
    Script(
        name="chess",
        title="Chess in the Park",
        voice="en-us+m2",
        speed_wpm=180,
        pitch=40,
        sentences=(
            "Under the plane trees in Carver Square, there are twelve stone tables with boards on top.",
            "Nobody owns the pieces; somebody's uncle brings them in a bucket.",
            "You may sit down opposite anyone, and you needn't say a word.",
            "I once lost eleven games in a row to a boy who was eating a sandwich.",
            "He took my queen, wiped his hand on his knee, and asked whether I was all right.",
            "I've played in proper tournaments since then, with clocks and carpets.",
            "They're quieter, but the coffee is worse.",
            "Every May, when the bucket appears again, I feel that winter is finally over.",
        ),
    ),
    Script(
        name="tides",
        title="Twice a Day",
        voice="en-gb-x-gbclan+f3",
        speed_wpm=162,
        pitch=54,
        sentences=(
            "Stand on a beach for six hours, and the whole sea will walk away from you.",
            "Most of that is the moon's doing, though the sun lends a hand.",
            "When the two pull in line, the water climbs highest, and we call it a spring tide.",
            "It has nothing to do with the season; the word just means to leap up.",
            "At my grandmother's house, the road to the mainland floods twice a day.",
            "There's a little hut on stilts, halfway across, for people who read the table wrongly.",
            "She kept a blanket there, a kettle, and four detective novels.",
            "The last chapters had been torn out, so that visitors would learn to be on time.",
        ),
    ),
    Script(
        name="glass",
        title="Old Windows",
        voice="en-us+f2",
        speed_wpm=172,
        pitch=50,
        sentences=(
            "Look at the windows of a very old house, and you'll see the street wobble.",
            "People say that glass is a liquid and has been flowing downward for centuries.",
            "It's a charming story, and it isn't true.",
            "Old panes are uneven because they were spun by hand, as a big flat disk.",
            "The rim came out thick, the middle came out thin, and nothing was wasted.",
            "Glaziers simply liked to put the heavy edge at the bottom.",
            "If glass really flowed, then Roman bottles would be puddles by now.",
            "Instead, they sit in museums, as sharp as on the day they cooled.",
        ),
    ),
    Script(
        name="library",
        title="Overdue",
        voice="en-us-nyc+m5",
        speed_wpm=176,
        pitch=44,
        sentences=(
            "The book came back in a plain brown envelope, with no letter and a ten dollar bill.",
            "It was a guide to garden birds, and it had been due in March of 1962.",
            "At two cents a day, the fine would've been about four hundred and fifty dollars.",
            "We don't charge fines any more, so we framed the bill and hung it by the door.",
            "Then a funny thing happened: other books began to come home.",
            "A cookbook, a Latin grammar, half of an encyclopedia.",
            "Somebody had pressed a fern between the pages for letter F.",
            "I suppose that people were never thieves; they were only embarrassed.",
        ),
    ),
    Script(
        name="snow",
        title="The Sound of Snow",
        voice="en+m1",
        speed_wpm=164,
        pitch=47,
        sentences=(
            "Why does the world go quiet after a snowfall?",
            "Partly, of course, because everyone stays indoors.",
            "But fresh snow is also full of holes, and sound goes in and doesn't come out.",
            "A few centimetres can swallow as much noise as a thick carpet and heavy curtains.",
            "Wait a day or two, and the effect is reversed.",
            "The surface melts, freezes hard, and throws every footstep back at you.",
            "On such mornings, I can hear the church clock in the next valley.",
            "It's eleven minutes slow, and it has been since I was a girl.",
        ),
    ),
)

LOWER_CASE = Script(
    name="lower-case",
    title="Keeping a Bicycle",
    voice="en-us+m4",
    speed_wpm=170,
    pitch=45,
    sentences=(
        "A bicycle asks for very little, and it asks for it often.",
        "Wipe the chain every week, and put one small drop of oil on each link.",
        "Squeeze the brakes before you ride, not while you are rolling down the hill.",
        "If something clicks once for each turn of the pedal, then look at the pedal.",
        "If it clicks more slowly than that, look at the chain.",
    ),
)
ROLLING = Script(
    name="rolling",
    title="How Canals Climb",
    voice="en-us+f4",
    speed_wpm=172,
    pitch=53,
    sentences=(
        "A canal cannot run uphill, and yet boats cross mountains on it.",
        "The trick is a lock, which is only a box with a gate at either end.",
        "You float in at the bottom, shut the gate behind you, and let water in from above.",
        "Ten minutes later, you are two metres higher and you have burned no fuel at all.",
        "The oldest ones still work, and they are opened by leaning on a beam.",
    ),
)
ALL_CAPS = Script(
    name="all-caps",
    title="Tomatoes on a Balcony",
    voice="en+f5",
    speed_wpm=168,
    pitch=56,
    sentences=(
        "Tomatoes will forgive you almost anything except a cold night.",
        "Plant them deep, right up to the first leaves, and the buried stem will grow roots.",
        "Tie them loosely to a cane, because the wind is stronger than it looks up there.",
        "Water the soil and never the leaves, and do it in the morning.",
        "By August, you'll be leaving bags of them at your neighbors' doors.",
    ),
)
FRENCH = Script(
    name="french-transcript",
    title="The Paper Boat Race",
    voice="en-us+m1",
    speed_wpm=170,
    pitch=49,
    sentences=(
        "Every September, our village races paper boats down the mill stream.",
        "There are only two rules: one sheet of paper, and no glue.",
        "The winner is not the fastest boat, but the last one that still floats.",
        "Engineers have come from the city, with wax and with diagrams, and they have all lost.",
        "The record belongs to a retired postman, who used a tax form.",
    ),
)
TRUNCATED = Script(
    name="truncated",
    title="The Long Way to School",
    voice="en-gb-x-rp",
    speed_wpm=166,
    pitch=46,
    sentences=(
        "My school was three kilometres away if you took the road, and five if you took the river.",
        "Naturally, we took the river.",
        "There were herons to be frightened, and a plank that only bore one of us at a time.",
        "We told our teacher that the clock in the kitchen had stopped.",
        "It stopped so often that, at Christmas, she gave my mother a new one.",
        "After that we had to run.",
    ),
)
HUM = Script(name="hum", title="Interlude", voice="en-us+f1", speed_wpm=150, pitch=50, sentences=("Hmm.", "Mm-hm."))

FRENCH_LINES = (
    "Chaque année en septembre, notre village fait courir des bateaux de papier sur le ruisseau du moulin.",
    "Il n'y a que deux règles : une seule feuille de papier, et pas de colle.",
    "Le vainqueur n'est pas le bateau le plus rapide, mais le dernier qui flotte encore.",
    "Des ingénieurs sont venus de la ville, avec de la cire et des plans, et ils ont tous perdu.",
    "Le record appartient à un facteur à la retraite, qui avait pris une feuille d'impôts.",
)
"""What the publisher of `FRENCH` wrongly sends as the transcript of an English episode, sentence by sentence."""

SCRIPTS = (*GOOD, LOWER_CASE, ROLLING, ALL_CAPS, FRENCH, TRUNCATED, HUM)
