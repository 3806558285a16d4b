"""UCF-101's class names: the 101 official ones in the order of `classInd.txt`, and the same split into words.

Text features depend on the spelling, so a record has to say which variant it used. Both are written out:
a rule that splits at capitals has no way to know that "Haircut" is one word and "Golf Swing" two.

One class goes by two spellings: the folder, `classInd.txt` and the lists' paths say `HandstandPushups`, the
files in that folder are called `v_HandStandPushups_g01_c01.avi`. `official_name` maps the second to the first.
"""

from __future__ import annotations

from pathlib import PurePosixPath

# (official name, the same in words), in label order
_CLASSES: tuple[tuple[str, str], ...] = (
    ("ApplyEyeMakeup", "Apply Eye Makeup"),
    ("ApplyLipstick", "Apply Lipstick"),
    ("Archery", "Archery"),
    ("BabyCrawling", "Baby Crawling"),
    ("BalanceBeam", "Balance Beam"),
    ("BandMarching", "Band Marching"),
    ("BaseballPitch", "Baseball Pitch"),
    ("Basketball", "Basketball"),
    ("BasketballDunk", "Basketball Dunk"),
    ("BenchPress", "Bench Press"),
    ("Biking", "Biking"),
    ("Billiards", "Billiards"),
    ("BlowDryHair", "Blow Dry Hair"),
    ("BlowingCandles", "Blowing Candles"),
    ("BodyWeightSquats", "Body Weight Squats"),
    ("Bowling", "Bowling"),
    ("BoxingPunchingBag", "Boxing Punching Bag"),
    ("BoxingSpeedBag", "Boxing Speed Bag"),
    ("BreastStroke", "Breast Stroke"),
    ("BrushingTeeth", "Brushing Teeth"),
    ("CleanAndJerk", "Clean And Jerk"),
    ("CliffDiving", "Cliff Diving"),
    ("CricketBowling", "Cricket Bowling"),
    ("CricketShot", "Cricket Shot"),
    ("CuttingInKitchen", "Cutting In Kitchen"),
    ("Diving", "Diving"),
    ("Drumming", "Drumming"),
    ("Fencing", "Fencing"),
    ("FieldHockeyPenalty", "Field Hockey Penalty"),
    ("FloorGymnastics", "Floor Gymnastics"),
    ("FrisbeeCatch", "Frisbee Catch"),
    ("FrontCrawl", "Front Crawl"),
    ("GolfSwing", "Golf Swing"),
    ("Haircut", "Haircut"),
    ("Hammering", "Hammering"),
    ("HammerThrow", "Hammer Throw"),
    ("HandstandPushups", "Handstand Pushups"),
    ("HandstandWalking", "Handstand Walking"),
    ("HeadMassage", "Head Massage"),
    ("HighJump", "High Jump"),
    ("HorseRace", "Horse Race"),
    ("HorseRiding", "Horse Riding"),
    ("HulaHoop", "Hula Hoop"),
    ("IceDancing", "Ice Dancing"),
    ("JavelinThrow", "Javelin Throw"),
    ("JugglingBalls", "Juggling Balls"),
    ("JumpingJack", "Jumping Jack"),
    ("JumpRope", "Jump Rope"),
    ("Kayaking", "Kayaking"),
    ("Knitting", "Knitting"),
    ("LongJump", "Long Jump"),
    ("Lunges", "Lunges"),
    ("MilitaryParade", "Military Parade"),
    ("Mixing", "Mixing"),
    ("MoppingFloor", "Mopping Floor"),
    ("Nunchucks", "Nunchucks"),
    ("ParallelBars", "Parallel Bars"),
    ("PizzaTossing", "Pizza Tossing"),
    ("PlayingCello", "Playing Cello"),
    ("PlayingDaf", "Playing Daf"),
    ("PlayingDhol", "Playing Dhol"),
    ("PlayingFlute", "Playing Flute"),
    ("PlayingGuitar", "Playing Guitar"),
    ("PlayingPiano", "Playing Piano"),
    ("PlayingSitar", "Playing Sitar"),
    ("PlayingTabla", "Playing Tabla"),
    ("PlayingViolin", "Playing Violin"),
    ("PoleVault", "Pole Vault"),
    ("PommelHorse", "Pommel Horse"),
    ("PullUps", "Pull Ups"),
    ("Punch", "Punch"),
    ("PushUps", "Push Ups"),
    ("Rafting", "Rafting"),
    ("RockClimbingIndoor", "Rock Climbing Indoor"),
    ("RopeClimbing", "Rope Climbing"),
    ("Rowing", "Rowing"),
    ("SalsaSpin", "Salsa Spin"),
    ("ShavingBeard", "Shaving Beard"),
    ("Shotput", "Shotput"),
    ("SkateBoarding", "Skate Boarding"),
    ("Skiing", "Skiing"),
    ("Skijet", "Skijet"),
    ("SkyDiving", "Sky Diving"),
    ("SoccerJuggling", "Soccer Juggling"),
    ("SoccerPenalty", "Soccer Penalty"),
    ("StillRings", "Still Rings"),
    ("SumoWrestling", "Sumo Wrestling"),
    ("Surfing", "Surfing"),
    ("Swing", "Swing"),
    ("TableTennisShot", "Table Tennis Shot"),
    ("TaiChi", "Tai Chi"),
    ("TennisSwing", "Tennis Swing"),
    ("ThrowDiscus", "Throw Discus"),
    ("TrampolineJumping", "Trampoline Jumping"),
    ("Typing", "Typing"),
    ("UnevenBars", "Uneven Bars"),
    ("VolleyballSpiking", "Volleyball Spiking"),
    ("WalkingWithDog", "Walking With Dog"),
    ("WallPushups", "Wall Pushups"),
    ("WritingOnBoard", "Writing On Board"),
    ("YoYo", "Yo Yo"),
)

OFFICIAL_NAMES: tuple[str, ...] = tuple(official for official, _ in _CLASSES)
"""CamelCase names as in `classInd.txt` and the folders; label 0 is line 1."""

WORDS: tuple[str, ...] = tuple(words for _, words in _CLASSES)
"""The same classes as separate words, the wording that prompts for CLIP use."""

_OTHER_SPELLINGS = {"HandStandPushups": "HandstandPushups"}


def official_name(name: str) -> str:
    """The official spelling of a class name; names without a second spelling come back unchanged."""
    return _OTHER_SPELLINGS.get(name, name)


def class_of_video(file_name: str) -> str | None:
    """Official class name in a file name like `v_HandStandPushups_g01_c01.avi`; `None` for any other shape.

    A folder in front of the file name is ignored, so this tells when a list's label contradicts the video itself.
    """
    prefix, *middle = PurePosixPath(file_name).stem.split("_")
    match middle:
        case [name, group, clip] if prefix == "v" and name and _numbered(group, "g") and _numbered(clip, "c"):
            return official_name(name)
        case _:
            return None


def _numbered(part: str, letter: str) -> bool:
    return part[:1] == letter and part[1:].isdecimal()
