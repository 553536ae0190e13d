"""The spellings that the VQA evaluators map to a contraction, built from their structure.

The official table has 120 entries. Four of them start with a capital and can never match lower-cased text ("Im",
"Ive", "Id've", "I'dve"), so "im" stays "im"; they are left out here without any change in behaviour.
"""

_STEMS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'ll": "how it somebody someone something they what who why you",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
}
# Two apostrophes, of which either one may be missing: "couldnt've" and "couldn'tve" both mean "couldn't've".
_DOUBLE_STEMS = (
    "couldn't hadn't he'd it'd mightn't she'd shouldn't somebody'd someone'd something'd there'd they'd we'd who'd "
    "wouldn't you'd"
)
_IRREGULAR = {
    "maam": "ma'am",
    "oclock": "o'clock",
    "twas": "'twas",
    "yall": "y'all",
    "yall'll": "y'all'll",
    "y'allll": "y'all'll",
    "yall'd've": "y'all'd've",
    "y'alld've": "y'all'd've",
    "y'all'dve": "y'all'd've",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
    # The official table has this one the wrong way round; both sides of a comparison go through it.
    "somebody'd": "somebodyd",
}


def build_contractions() -> dict[str, str]:
    """Map each misspelt contraction to the right one.

    >>> build_contractions()["shouldnt've"]
    "shouldn't've"
    """
    table = dict(_IRREGULAR)
    for ending, stems in _STEMS.items():
        for stem in stems.split():
            table[(stem + ending).replace("'", "")] = stem + ending
    for stem in _DOUBLE_STEMS.split():
        table[stem.replace("'", "") + "'ve"] = stem + "'ve"
        table[stem + "ve"] = stem + "'ve"
    return table


CONTRACTIONS = build_contractions()
