"""YAML and JSONL lines of strangers: dates, bombs, depth, repeated keys, names that are none."""

import json

YAMLS = {
    "date": "images: 2001-01-01\nclasses: [2001-01-01]\n",
    "baddate": "images: images\nclasses: [a]\nbackground: 2001-99-99\n",
    "huge": "images: images\nclasses: [a]\nignore: " + "9" * 5000 + "\n",
    "float": "images: images\nclasses: [a, b]\nbg: 1e999\n",
    "sexagesimal": "images: images\nclasses: [1:30, a]\nignore: 190:20:30\n",
    "deep": "[" * 3000,
    "deepmap": "a: " * 3000,
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "selfalias": "classes: &a [*a]\nimages: images\n",
    "intkeys": "1: 2\n3: {4: 5}\n",
    "listkeys": "? [a, b]\n: c\n",
    "twice": "images: images\nimages: other\nclasses: [a]\n",
    "python": "!!python/object/apply:os.system ['touch CANARY']\n",
    "binary": "images: !!binary aGVsbG8=\nclasses: [a]\n",
    "bom": "\ufeffimages: images\nclasses: [a]\n",
    "nul": "images: images\0\nclasses: [a]\n",
    "merge": "<<: [1, 2]\nimages: images\nclasses: [a]\n",
    "list": "- a\n- b\n",
    "scalar": "5\n",
    "nan": "images: images\nclasses: [.nan, a]\nbg: .nan\n",
    "manyclasses": "images: images\nclasses: [" + ", ".join(f"c{i}" for i in range(300)) + "]\n",
    "escape": 'images: "a\\x1b[2J\\nb"\nclasses: [a]\n',
}


LINES = {
    "surrogate": '{"image": "good.png", "text": "\\ud800 cat", "id": "a"}',
    "surrogateid": '{"image": "good.png", "text": "a cat", "id": "\\udcff"}',
    "nul": '{"image": "a\\u0000.png", "text": "a cat"}',
    "separator": '{"image": "a\u2028b.png", "text": "a \u2028 \x85 cat", "id": "a\u2028b"}',
    "overlong": json.dumps({"image": "x" * 5000 + ".png", "text": "a cat"}),
    "deepname": json.dumps({"image": "y/" * 2500 + "a.png", "text": "a cat"}),
    "longid": json.dumps({"image": "good.png", "text": "a cat", "id": "x" * 5000}),
    "outside": json.dumps({"image": "../../../../etc/passwd", "text": "a cat", "id": "../../../x"}),
    "nouser": json.dumps({"image": "~nouser/a.png", "text": "a cat"}),
    "pipe": json.dumps({"image": "../special/pipe.png", "text": "a cat"}),
    "device": json.dumps({"image": "/dev/zero", "text": "a cat"}),
    "folder": json.dumps({"image": "../special/folder.jpg", "text": "a cat"}),
    "nan": '{"image": "good.png", "text": NaN, "tags": Infinity}',
    "hugeint": '{"image": "good.png", "text": "a cat", "id": ' + "9" * 5000 + "}",
    "deep": '{"image": "good.png", "text": ' + "[" * 100_000,
    "twice": '{"image": "good.png", "image": "other.png", "text": "a cat"}',
    "types": '{"image": ["good.png"], "text": {"a": 1}, "tags": "cat"}',
    "emptytext": '{"image": "good.png", "text": "\u200b \u2028"}',
    "longtext": json.dumps({"image": "good.png", "text": "cat " * 20_000}),
    "oneword": json.dumps({"image": "good.png", "text": "x" * 100_000}),
    "manytags": json.dumps({"image": "good.png", "text": "a cat", "tags": ["cat"] * 1000}),
    "escape": '{"image": "good.png", "text": "a \\u001b[2J cat", "id": "\\u001b[2J"}',
    "notobject": "[1, 2]",
    "notjson": "{image: a}",
    "bidi": '{"image": "good.png", "text": "\u202ea cat", "id": "\u202e"}',
    "box": '{"image": "good.png", "text": "a cat", "box": [0, 0, 1e400, NaN]}',
    "boxes": '{"image": "good.png", "text": "a cat", "box": [9, 9, 1, 1]}',
}
