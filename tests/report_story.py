"""A story with everything the page can show, hostile text included."""

from nlsim.report.page import Browser, Figure, Part, Story
from nlsim.report.svg import Axis, Dot, Dots, Lines, Reference, Series
from nlsim.report.tables import Column, Number, Table

HOSTILE = [
    "</script>",
    "<!--<script>",
    "&lt;b&gt;",
    "]]>",
    "\u2028",
    "\u202eevil",
    "👩‍👩‍👧",
    "\ufffd",
    "",
    "<img src=x onerror=alert(1)>",
    "x" * 3000,
    "\n",
    " a\tb",
    "'\"`${}",
]


def story(latents: int = 40) -> Story:
    """`latents` latents with hostile contexts."""
    table = Table(
        "Losses",
        [Column("condition"), Column("cross-entropy", "nats", "lower"), Column("n")],
        [["clean", Number(3.185, 3.1, 3.27), 64], ["<b>bold</b>", Number(float("nan")), 64], ["absent", None, 0]],
        "Mean over tokens; 95 % bootstrap over documents.",
        frozenset({0}),
    )
    lines = Lines(
        "Loss by fraction",
        Axis("fraction of latents", "log"),
        Axis("cross-entropy (nats)"),
        [
            Series("best first", [0.001, 0.01, 0.1, 1], [3.1, 3.2, 3.3, 3.4], [3, 3.1, 3.2, 3.3], [3.2, 3.3, 3.4, 3.5]),
            Series("random", [0.001, 0.01, 0.1, 1], [3.1, 3.25, float("nan"), 3.4]),
        ],
        [Reference("mean ablation", 3.35)],
    )
    dots = Dots("Conditions", Axis("nats"), [Dot("zero", 3.3, 3.2, 3.4), Dot("mean", 3.29, 3.2, 3.38, 1)])
    values = [99 if i % 3 == 0 else 0 for i in range(len(HOSTILE))]
    context = {"max": 4.5, "tokens": HOSTILE, "values": values}
    window = {"max": 4.5, "tokens": HOSTILE, "true": values, "said": values[::-1]}
    records = [
        {
            "id": number,
            "text": HOSTILE[number % len(HOSTILE)] + f" explanation {number}",
            "status": "ok",
            "density": 0.001 * number,
            "score": None if number % 7 == 0 else 0.5 + number / 200_000,
            "auc": None if number % 5 == 0 else 0.9,
            "scores": {"detection": 0.8, "fuzzing": None},
        }
        for number in range(latents)
    ]
    details = {
        number: {
            "mean": 1.5,
            "max": 4.5,
            "scores": [{"name": "detection", "value": 0.8, "low": 0.7, "high": 0.9, "n": 20, "failed": 1}],
            "reads": 3968,
            "windows_n": 64,
            "top": [context],
            "quantiles": [context],
            "windows": [window],
        }
        for number in range(latents)
    }
    return Story(
        "A <tiny> run",
        "nlsim:tiny · layers.2.mlp",
        "English recovers 61 % (48 to 73) of what the layer contributes.",
        ["First finding & more.", "Second </li> finding."],
        [
            Part(
                "losses", "Losses", ["A paragraph.", table, (Figure(lines, "n = 64.", table), Figure(dots, "n = 64."))]
            ),
        ],
        Browser(records, details),
        {"nlsim": "0.1.0", "subject": "</dd><script>alert(1)</script>"},
        "name: tiny\n",
        {"metrics.json": "every number"},
    )
