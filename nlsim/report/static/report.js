// The latent browser and the theme button. Everything else on the page works without a script.
"use strict";
(() => {
  const { $, element, attempt, theme, unpack, number, percent, visible, shade, context } = nlsim;
  const root = document.documentElement;
  theme($("theme"));

  const manifest = JSON.parse($("manifest").textContent);
  if (!manifest.latents.length) { root.dataset.ready = "1"; return; }
  const list = $("latents"), detail = $("detail"), search = $("search"), order = $("order"), told = $("told");

  // One button per latent; `content-visibility` keeps ten thousand of them cheap and leaves find-in-page working.
  const items = manifest.latents.map((latent) => {
    const facts = [`#${latent.id}`, `active ${percent(latent.density)}`];
    for (const [name, value] of Object.entries(latent.scores)) facts.push(`${name} ${number(value)}`);
    if (latent.auc !== null) facts.push(`simulation AUC ${number(latent.auc)}`);
    const button = element("button", { type: "button", tabindex: "-1" },
      element("span", { class: "text" }, latent.text || `no explanation (${latent.status})`),
      element("span", { class: "facts" }, facts.join(" · ")));
    const item = element("li", {}, button);
    button.addEventListener("click", () => open(latent.id));
    return { latent, item, button, words: `#${latent.id} ${latent.text}`.toLowerCase() };
  });
  const byId = new Map(items.map((entry) => [entry.latent.id, entry]));
  let shown = items, current = null;

  const keys = { id: (l) => l.id, score: (l) => -(l.score ?? -1), auc: (l) => -(l.auc ?? -1), density: (l) => -l.density };
  const refresh = () => {
    const query = search.value.trim().toLowerCase();
    const key = keys[order.value];
    shown = items.filter((entry) => entry.words.includes(query)).sort((a, b) => key(a.latent) - key(b.latent) || a.latent.id - b.latent.id);
    list.replaceChildren(...shown.map((entry) => entry.item));
    told.textContent = `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} latents`;
    const reachable = shown.includes(current) ? current : shown[0];
    for (const entry of items) entry.button.tabIndex = entry === reachable ? 0 : -1;
  };

  const compared = (entry) => {
    const row = element("div", { class: "context two" });
    entry.tokens.forEach((text, i) => {
      const [truth, said] = [entry.true[i], entry.said[i]];
      const style = {};
      if (truth > 0) style["--p"] = shade(truth);
      if (said > 0) style["--q"] = shade(said);
      const title = `true ${number(truth / 99 * entry.max)}, simulated ${number(said / 99 * entry.max)}`;
      row.append(element("span", { class: "token", title, style }, visible(text)));
    });
    return row;
  };

  const show = async (entry) => {
    const latent = entry.latent;
    const data = (await unpack(`chunk-${latent.chunk}`))[latent.id];
    if (current !== entry) return;
    const rows = [["active at", `${percent(latent.density)} of tokens`], ["mean when active", number(data.mean)], ["robust maximum", number(data.max)]];
    for (const score of data.scores) rows.push([score.name, `balanced accuracy ${number(score.value)} (${number(score.low)} to ${number(score.high)}), n = ${score.n}${score.failed ? `, ${score.failed} failed` : ""}`]);
    if (latent.auc !== null) rows.push(["simulation", `AUC ${number(latent.auc)} on ${data.reads.toLocaleString("en")} tokens of ${data.windows_n} windows`]);
    const facts = element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    detail.replaceChildren(
      element("h3", {}, `Latent ${latent.id}`),
      element("blockquote", {}, latent.text || `No explanation: ${latent.status}.`), facts,
      element("h4", {}, "Strongest contexts"), ...data.top.map(context),
      ...(data.quantiles.length ? [element("h4", {}, "Contexts over its activation ranks, strongest first"), ...data.quantiles.map(context)] : []));
    if (data.windows.length) {
      detail.append(element("h4", {}, "Evaluation windows: true and simulated"),
        element("p", { class: "key" }, element("b", { class: "t" }, "true activation"), " as background, ", element("b", { class: "s" }, "simulated"), " as underline; both on the latent's own scale."),
        ...data.windows.map(compared));
    }
    detail.scrollTop = 0;
  };
  const open = (id, focus = false) => {
    const entry = byId.get(id);
    if (!entry) return;
    for (const other of items) other.button.removeAttribute("aria-current");
    current = entry;
    entry.button.setAttribute("aria-current", "true");
    for (const other of items) other.button.tabIndex = other === entry ? 0 : -1;
    if (focus) entry.button.focus();
    entry.item.scrollIntoView({ block: "nearest" });
    if (location.hash !== `#latent=${id}`) attempt(() => { location.hash = `latent=${id}`; });
    show(entry).catch((error) => { detail.textContent = `This latent's data cannot be read: ${error}`; });
  };

  search.addEventListener("input", refresh);
  order.addEventListener("change", refresh);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey || !shown.length) return;
    event.preventDefault();
    const at = Math.max(0, shown.findIndex((entry) => entry.button === document.activeElement));
    open(shown[Math.min(shown.length - 1, Math.max(0, at + step))].latent.id, true);
  });
  const fromHash = () => {
    const asked = /^#latent=(\d+)$/.exec(location.hash);
    if (asked && (!current || current.latent.id !== Number(asked[1]))) { search.value = ""; refresh(); open(Number(asked[1])); }
  };
  window.addEventListener("hashchange", fromHash);
  refresh();
  fromHash();
  if (!current) { current = shown[0]; current.button.setAttribute("aria-current", "true"); show(current); }
  $("browser").hidden = false;
  root.dataset.ready = "1";
})();
