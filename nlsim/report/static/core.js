// What the pages share: making elements, the theme button, reading embedded data, showing tokens.
"use strict";
const nlsim = (() => {
  const $ = (id) => document.getElementById(id);
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "style") for (const [property, v] of Object.entries(value)) made.style.setProperty(property, v);
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };
  const attempt = (action) => { try { return action(); } catch { return undefined; } };

  // Follows the system until the reader chooses; the choice is kept where the browser allows it.
  const theme = (button) => {
    const root = document.documentElement;
    const themes = ["auto", "light", "dark"];
    const show = (name) => {
      if (name === "auto") delete root.dataset.theme; else root.dataset.theme = name;
      button.textContent = `Theme: ${name}`;
      attempt(() => localStorage.setItem("nlsim-theme", name));
    };
    let chosen = attempt(() => localStorage.getItem("nlsim-theme"));
    if (!themes.includes(chosen)) chosen = "auto";
    show(chosen);
    button.addEventListener("click", () => show(chosen = themes[(themes.indexOf(chosen) + 1) % 3]));
    button.hidden = false;
  };

  // Compressed parts of the data, by the id of their element; the last few that were opened stay decoded.
  const decoded = new Map();
  const unpack = (id) => {
    if (!decoded.has(id)) {
      const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      decoded.set(id, new Response(stream).json());
      if (decoded.size > 12) decoded.delete(decoded.keys().next().value);
    }
    return decoded.get(id);
  };

  const known = (value) => value !== null && value !== undefined;
  const number = (value, digits = 2) => known(value) ? value.toFixed(digits) : "n/a";
  const percent = (value) => known(value) ? `${(100 * value).toPrecision(2)} %` : "n/a";

  // Text of tokens as it is, but for what would be invisible or turn the text around.
  const visible = (text) => text.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥\t")
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
      (c) => `U+${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

  // A context of a latent: `values` and the strongest of them in steps of `max` / 99.
  const shade = (value) => `${Math.round(6 + 40 * Math.log10(1 + 9 * value / 99))}%`;
  const context = (entry) => {
    const row = element("div", { class: "context" }, element("span", { class: "strength" }, number(Math.max(0, ...entry.values) / 99 * entry.max)));
    entry.tokens.forEach((text, i) => {
      const value = entry.values[i];
      row.append(value > 0
        ? element("span", { class: "token active", title: `activation ${number(value / 99 * entry.max)}`, style: { "--p": shade(value) } }, visible(text))
        : element("span", { class: "token" }, visible(text)));
    });
    return row;
  };
  return { $, element, attempt, theme, unpack, known, number, percent, visible, shade, context };
})();
