from __future__ import annotations

import pytest

from vlbench.datasets.ucf101_names import OFFICIAL_NAMES, WORDS, class_of_video, official_name


def test_there_are_101_different_names_in_both_variants() -> None:
    for names in (OFFICIAL_NAMES, WORDS):
        assert len(names) == 101
        assert len(set(names)) == 101


def test_both_variants_have_the_same_letters() -> None:
    assert tuple(words.replace(" ", "") for words in WORDS) == OFFICIAL_NAMES


def test_official_names_are_camel_case_and_words_start_with_capitals() -> None:
    assert all(name.isascii() and name.isalpha() and name[0].isupper() for name in OFFICIAL_NAMES)
    assert all(word[0].isupper() and word[1:].islower() for words in WORDS for word in words.split(" "))


@pytest.mark.parametrize(
    ("label", "official", "words"),
    [
        (0, "ApplyEyeMakeup", "Apply Eye Makeup"),
        (33, "Haircut", "Haircut"),
        (34, "Hammering", "Hammering"),
        (35, "HammerThrow", "Hammer Throw"),
        (36, "HandstandPushups", "Handstand Pushups"),
        (37, "HandstandWalking", "Handstand Walking"),
        (90, "TaiChi", "Tai Chi"),
        (100, "YoYo", "Yo Yo"),
    ],
)
def test_some_labels_by_hand(label: int, official: str, words: str) -> None:
    assert (OFFICIAL_NAMES[label], WORDS[label]) == (official, words)


def test_the_second_spelling_is_mapped_to_the_official_one() -> None:
    assert official_name("HandStandPushups") == "HandstandPushups"
    assert official_name("HandstandPushups") == "HandstandPushups"
    assert official_name("YoYo") == "YoYo"


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("v_HandStandPushups_g01_c01.avi", "HandstandPushups"),
        ("HandstandPushups/v_HandStandPushups_g01_c01.avi", "HandstandPushups"),
        ("v_YoYo_g25_c07.mp4", "YoYo"),
        ("YoYo.avi", None),
        ("v_YoYo_g25.avi", None),
        ("v_YoYo_c07_g25.avi", None),
        ("v_YoYo_g_c07.avi", None),
        ("v__g01_c01.avi", None),
        ("x_YoYo_g25_c07.avi", None),
    ],
)
def test_class_of_video(file_name: str, expected: str | None) -> None:
    assert class_of_video(file_name) == expected
