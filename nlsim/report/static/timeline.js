// The theme button. Everything else on the page works without a script.
"use strict";
nlsim.theme(document.getElementById("theme"));
document.documentElement.dataset.ready = "1";
