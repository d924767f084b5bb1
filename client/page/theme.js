/* theme.js - light or dark before anything is painted: what was chosen, else what the system says.
 * A classic script, since modules run after the first paint. */
"use strict";
(function () {
    let chosen = null;
    try {
        chosen = localStorage.getItem("ascribe.theme");
    } catch {
        /* storage is closed to us: the system's choice it is */
    }
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
