"""Values that options are given and that no option can mean."""

# Strings for options that name something, paths or not.
STRINGS = (
    *("", " ", ".", "..", "/", "~nouser", "~nouser/x", "-", "a\nb", "\u2028", "\x85", "\udcff"),
    *(
        "x" * 300,
        "x" * 5000,
        "y/" * 2500,
        "{0..99999999}.tar",
        "{a,b}{0..9}{0..9}.tar",
        "**",
        "[",
        "*",
    ),
    *("/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/self/fd", "hf-hub:../../x", "local-dir:"),
    *(
        "local-dir:/",
        "hf-hub:",
        "null",
        "nan",
        "1",
        "%s",
        "{}",
        "\x1b[2J",
        "a+b",
        "+",
        "a=b",
        "=",
        "a.b=1",
    ),
    *("ViT-B-32:/dev/zero", "ViT-B-32:", ":", "cuda:99", "meta", "cpu:5", "cuda:-1", "a@b@c"),
    *(
        "steps=9999999999999999999999",
        "lora={}",
        "lora=[[[[",
        "steps=2001-01-01",
        "=5",
        "a.b.c.d=1",
    ),
    *("{x}=&a [*a]", "batch=.nan", "lr=.inf", "lora.rank=-1", "lr=!!python/name:os.system"),
)
WHOLE = ("0", "-1", "9" * 30, "1e9", "nan", "", "x", "٣", "0x10", "1_0", "２")
FRACTIONS = ("0", "-1", "nan", "inf", "-inf", "1e400", "1e-400", "", "x", "1e308")
