"""Writes words.jsonl and python.jsonl: what Python itself answers.

    python3 testdata/generate.py

Both are checked in, so that the tests need no Python. The same Python always
writes the same bytes.
"""

import fnmatch
import json
import pathlib
import posixpath
import random
import shlex

HERE = pathlib.Path(__file__).parent
rng = random.Random(20260821)


def attempt(f, *args):
    try:
        return {"value": f(*args)}
    except ValueError as e:
        return {"error": str(e)}


def words():
    chosen = [
        "", " ", "\t\r\n", "a", " a  b ", "a\tb\rc\nd", "''", '""', "'' \"\"", "a''b", "a '' b", "'a b'", '"a b"', "'a\"b'", "\"a'b\"",
        r"a\ b", r"a\\b", r"'a\b'", r'"a\b"', r'"a\"b"', r'"a\\b"', r'"a\$b"', "\"a\\\nb\"", "a\\\nb", "\\", "a\\", "'a", '"a', '"a\\', "a'", 'a"',
        "# a", "a # b", "a#b", "$HOME `x` *", "a;b|c&d<e>f(g)", "a=b --c=d", "é", "a\u2003b", "a\u00a0b", "'é ü'", "\\é", "\"\\é\"", "a\x00b", "a\x0bb",
        "python:v2 analysis/model.py --x='1 2'", "it's", "a\"b'c\"d'e", "''''", '"""a"""', "\\'", '\\"', "'\\''", "'a'\\''b'",
    ]
    alphabet = ["a", "b", " ", " ", "'", "'", '"', '"', "\\", "\\", "\t", "\n", "#", "$", "é", "="]
    lines = chosen + ["".join(rng.choices(alphabet, k=rng.randrange(1, 13))) for _ in range(2600)]
    for line in dict.fromkeys(lines):
        case = {"line": line, **attempt(shlex.split, line)}
        if "value" in case:
            case["join"] = shlex.join(case["value"])
        yield case


def numbers():
    texts = "5 5.0 05 5. .5 . 1e0 1e1 e1 1e 1e+ 1E-5 inf -inf Infinity +nan NaN infin 0x5 0o5 0b1 1_0 1__0 _1 1_ 1_.0 1._0 1e1_0 1_e1 +5 -5 ++5 5,0 v5 1e400 -1e400 1e-400 1e16 1e15 123456789.123456789 0.0001 0.00001 1e22 1e21 5e-324 1.7976931348623157e308 ٥ ５.５ ५ ²".split(" ")
    texts += ["", " ", " 5 ", "\u00a05\u2003", "5 5", "\x1c5", "5\n", "- 5", "5\x00", "true", "None", "9" * 30]
    for text in texts:
        yield {"call": "float", "in": text, **attempt(lambda t: repr(float(t)), text)}
        yield {"call": "int", "in": text, **attempt(lambda t: str(int(t)), text)}


def paths():
    elements = ["a", "b.csv", ".", "..", "", "x.", ".x", "..x.csv", "...csv", "x.tar.gz", "*", "*.csv", "x.*", "é.txt", "a b.c d", ".x.csv", "x..", "metadata"]
    texts = ["", "/", "//", "///", "//a", "///a", "a/", "./", "../", "/..", "//..", "a/../../b"]
    texts += ["/".join(rng.choices(elements, k=rng.randrange(1, 5))) for _ in range(300)]
    texts += ["/" * rng.randrange(1, 4) + "/".join(rng.choices(elements, k=rng.randrange(1, 4))) for _ in range(100)]
    for text in dict.fromkeys(texts):
        path = pathlib.PurePosixPath(text)
        yield {"call": "path", "in": text, "value": [str(path), path.name, str(path.parent), path.suffix, posixpath.normpath(text)]}


def globs():
    patterns = ["*", "a*b", "*.csv", "a/*.csv", "a?c", "[ab]", "[!ab]", "[a-c]x", "[c-a]", "[]]", "[!]]", "[", "[]", "[a", "a]", "[-a]", "[a-]", "[!-]", "[^a]", "[a-c-e]", "**", "a**b", "", "?", "[[]", "[!]", "[\\]", "out[a-z]ut/*.csv", "*a*b*c*"]
    texts = ["", "a", "b", "c", "-", "]", "[", "^", "!", "\\", "ab", "aXb", "a/b", "abc", "x.csv", "a/x.csv", "a/b/x.csv", "output/x.csv", "bx", "[a", "a]", "e", "a\nb", "é", "aabbcc", ".csv"]
    for pattern in patterns:
        yield {"call": "fnmatch", "in": pattern, "value": [text for text in texts if fnmatch.fnmatchcase(text, pattern)], "texts": texts}


def write(name, cases):
    with open(HERE / name, "w") as out:
        for case in cases:
            out.write(json.dumps(case, separators=(",", ":")) + "\n")


write("words.jsonl", words())
write("python.jsonl", [*numbers(), *paths(), *globs()])
