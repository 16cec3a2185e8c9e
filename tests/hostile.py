"""Texts that try to get out of the place where they are shown."""

ATTACKS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=https://evil.invalid/x onerror=alert(1)>",
    "</title></style></textarea></noscript></svg><svg/onload=alert(1)>",
    '" onmouseover=alert(1) autofocus onfocus=alert(1) x="',
    "' onclick='alert(1)",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<base href=https://evil.invalid/><link rel=stylesheet href=https://evil.invalid/x.css>",
    "<meta http-equiv=refresh content='0;url=https://evil.invalid/'>",
    "<form action=https://evil.invalid/><button>Go</button></form>",
    "<!--<script>",
    "]]><!--config-->--><!--title-->",
    "[link](javascript:alert(1)) ![image](https://evil.invalid/x.png) `code` | cell",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)}",
    '=HYPERLINK("https://evil.invalid")',
    "\x1b]0;owned\x07\x1b[31m\x9b2J\r\n\u202egnp.exe",
]
