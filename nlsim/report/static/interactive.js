// The interactive page. Data: docs/interactive.md. State lives in `state` and in the address; `show…` draws a part of it.
(() => {
  const { $, element, attempt, theme, unpack, known, number, percent, visible, shade, context } = nlsim;
  const root = document.documentElement;
  theme($("theme"));
  const manifest = JSON.parse($("manifest").textContent);
  if (!manifest.prompts.length) { root.dataset.ready = "1"; return; }

  const chunkOf = new Map(manifest.chunks.flatMap((group, n) => group.map((latent) => [latent, `latents-${n}`])));
  const state = { prompt: 1, mode: "same", condition: "top", fraction: 0.5, compare: "coder", token: 0, latent: null, kind: manifest.kinds[0] };
  let prompt, explanations, stops, rows = [];

  // Conditions. A label (`top:0.3`, `help:base`, `coder`, `none`) is what the data calls one.
  const ordered = (condition) => condition === "top" || condition === "random";
  const label = () => {
    if (!ordered(state.condition)) return `${state.condition}:${state.kind}`;
    if (state.fraction <= 0) return "none";
    return state.fraction >= 1 ? "coder" : `${state.condition}:${state.fraction}`;
  };
  const what = (name) => name.split(":")[0];
  const detailOf = (name) => name.split(":")[1];  // the fraction, or the kind of explanations
  const several = manifest.kinds.length > 1;
  const named = (name) => {
    const of = several ? ` (${detailOf(name)})` : "";
    return { coder: "all true latents", none: "no latents", help: `found latents${of}`, simulated: `simulated values${of}`,
      top: `strongest ${percentOf(detailOf(name))}`, random: `random ${percentOf(detailOf(name))}` }[what(name)];
  };
  const percentOf = (fraction) => `${Math.round(100 * fraction)} %`;
  const textOf = (name) => state.mode === "own" ? prompt.free[name] ?? 0 : 0;
  const stepsOf = (name) => prompt.steps[textOf(name)][name];
  const keeps = (name, count) => count ? Math.max(1, Math.floor(Number(detailOf(name)) * count + 0.5)) : 0;

  // KL on one logarithmic scale: class k0 … k7, and a number.
  const EDGES = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3];
  const level = (kl) => EDGES.filter((edge) => kl >= edge).length;
  const nats = (kl) => kl < 0.001 ? (kl === 0 ? "0" : "<0.001") : kl.toFixed(kl < 0.1 ? 3 : kl < 10 ? 2 : 1);
  const short = (text) => visible(text.length > 32 ? `${[...text].slice(0, 24).join("")}…` : text);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);

  // What one condition shows at a column: column t is token t of the text, predicted by step t - 1.
  const cell = (name, t) => {
    const steps = stepsOf(name), text = textOf(name);
    if (t > steps.kl.length) return null;
    const written = t >= prompt.begun;
    const id = state.mode === "own" ? prompt.ids[text][t] : steps.chosen[t - 1];
    const token = state.mode === "own" ? prompt.texts[text][t] : prompt.words[id];
    return { kl: steps.kl[t - 1], token, written, other: written && id !== prompt.ids[0][t] };
  };
  const columns = () => Math.max(prompt.ids[0].length, ...[label(), state.compare].filter(Boolean).map((name) => prompt.ids[textOf(name)].length));

  const drawn = (shown, role) => {
    if (!shown) return element("span", { class: `tok ${role} gone` }, "∎");
    const marks = [`tok ${role} k${level(shown.kl)}`, shown.other ? "other" : shown.written ? "equal" : "bare"];
    const token = shown.written ? element("span", { class: "word" }, (shown.other ? "≠ " : "") + (short(shown.token) || "∅")) : "";
    return element("span", { class: marks.join(" ") }, token, element("small", {}, nats(shown.kl)));
  };
  const described = (t, first, second) => {
    const parts = [`${t < prompt.begun ? "prompt" : "written"} token ${t}: ${short(prompt.texts[0][t] ?? "end of text")}`];
    if (first) parts.push(`patched: ${first.written ? `${short(first.token)}, ` : ""}KL ${nats(first.kl)} nats`);
    if (second) parts.push(`compared: ${second.written ? `${short(second.token)}, ` : ""}KL ${nats(second.kl)} nats`);
    return parts.join("; ");
  };
  const names = (written) => element("li", { class: "names", "aria-hidden": "true" },
    element("b", {}, written ? "written" : "prompt"), element("span", {}, "patched"), ...(state.compare ? [element("span", {}, "compare")] : []));

  const showStrip = () => {
    const items = [names(false)], end = columns();
    for (let t = 1; t < end; t++) {
      if (t === prompt.begun) items.push(element("li", { class: "break", "aria-hidden": "true" }), names(true));
      const [first, second] = [cell(label(), t), state.compare ? cell(state.compare, t) : null];
      const own = prompt.texts[0][t];
      const button = element("button", { type: "button", class: "col", "data-t": t, tabindex: t === state.token ? "0" : "-1",
        "aria-pressed": String(t === state.token), "aria-label": described(t, first, second) },
        element("span", { class: `tok model${known(own) ? "" : " gone"}` }, known(own) ? short(own) || "∅" : "∎"),
        drawn(first, "a"), ...(state.compare ? [drawn(second, "b")] : []));
      if (t === state.token - 1) button.classList.add("read");
      items.push(element("li", {}, button));
    }
    $("strip").replaceChildren(...items);
    const line = (name) => {
      const steps = stepsOf(name), kl = steps.kl.slice(prompt.begun - 1), text = prompt.ids[textOf(name)];
      const ids = state.mode === "own" ? text.slice(prompt.begun) : steps.chosen.slice(prompt.begun - 1);
      const differ = ids.filter((id, i) => id !== prompt.ids[0][prompt.begun + i]).length;
      return [`KL ${nats(mean(kl))} nats per token, ${differ} of ${ids.length} tokens differ`, named(name)];
    };
    const [told, name] = line(label());
    const other = state.compare ? line(state.compare) : null;
    $("said").replaceChildren(element("strong", {}, `Rebuilt from ${name}: `), `${told} (means and counts over what is written).`,
      ...(other ? [element("span", { class: "soft" }, ` Compare, ${other[1]}: ${other[0]}.`)] : []));
  };

  const showScale = () => {
    const swatch = (n) => element("span", { class: `k${n}` }, n === 0 ? `< ${EDGES[0]}` : `${EDGES[n - 1]}${n === 7 ? "+" : ""}`);
    $("scale").replaceChildren(element("span", { class: "soft" }, "KL in nats, from"), ...[0, 1, 2, 3, 4, 5, 6, 7].map(swatch),
      element("span", { class: "soft" }, "Framed: the chosen token; dashed: the one read before it, whose latents are listed."));
    $("scale").setAttribute("aria-label", `Colours of KL in nats: no colour below ${EDGES[0]}, then steps at ${EDGES.join(", ")}`);
  };

  // The two distributions, and KL by fraction.
  const showNext = () => {
    const t = state.token, name = label();
    const clean = prompt.steps[textOf(name)].clean, patched = stepsOf(name);
    const body = $("next-body");
    if (t > patched.kl.length) { body.replaceChildren(element("p", {}, "The patched model’s text has ended before.")); return; }
    const text = prompt.texts[textOf(name)];
    const tokens = [...new Set([...clean.likeliest[t - 1], ...patched.likeliest[t - 1]])];
    const chance = (steps, id) => {
      const place = steps.likeliest[t - 1].indexOf(id);
      return place < 0 ? null : steps.probability[t - 1][place];
    };
    const bar = (p, least, role) => element("td", { class: "n" }, element("span", { class: `bar ${role}`, style: { "--w": `${100 * (p ?? 0)}%` } }),
      p === null ? `< ${(100 * least).toPrecision(2)} %` : percent(p));
    const least = (steps) => steps.probability[t - 1].at(-1);
    const table = element("table", {}, element("caption", {}, `After “${text.slice(Math.max(1, t - 4), t).map(short).join("") || "the beginning"}”: the likeliest next tokens of both`),
      element("thead", {}, element("tr", {}, ...["token", "model", "patched"].map((head, i) => element("th", { scope: "col", ...(i ? { class: "n" } : {}) }, head)))),
      element("tbody", {}, ...tokens.slice(0, 8).map((id) => element("tr", {}, element("th", { scope: "row", class: "mono" }, short(prompt.words[id]) || "∅"),
        bar(chance(clean, id), least(clean), "m"), bar(chance(patched, id), least(patched), "p")))));
    const kl = patched.kl[t - 1];
    body.replaceChildren(element("p", {}, "KL ", element("b", { class: `chip k${level(kl)}` }, nats(kl)), " nats",
      ...(t === 1 ? [element("span", { class: "soft" }, ": nothing is patched at BOS")] : [])), table, ...(state.mode === "same" ? [chart(t)] : []));
  };

  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const chart = (t) => {
    const [width, height, left, right, top, bottom] = [340, 200, 42, 66, 12, 36];
    const at = (name) => Math.max(prompt.steps[0][name].kl[t - 1], 1e-4);
    const lines = ["top", "random"].filter((order) => prompt.conditions.some((name) => what(name) === order))
      .map((order) => [order, stops.map((f) => [f, at(f <= 0 ? "none" : f >= 1 ? "coder" : `${order}:${f}`)])]);
    const marks = prompt.conditions.filter((name) => what(name) === "help" || what(name) === "simulated");
    const most = Math.max(...lines.flatMap(([, points]) => points.map((point) => point[1])), ...marks.map(at), 1e-3);
    const [low, high] = [-4, Math.ceil(Math.log10(most))];
    const x = (f) => left + f * (width - left - right);
    const y = (kl) => top + (high - Math.log10(kl)) / (high - low) * (height - top - bottom);
    const parts = [];
    for (let power = low; power <= high; power++) parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power) }),
      svg("text", { class: "tick", x: left - 5, y: y(10 ** power) + 4, "text-anchor": "end" }, power === low ? "≤10⁻⁴" : power < -2 ? `10⁻${"⁰¹²³⁴"[-power]}` : String(10 ** power)));
    for (const f of [0, 0.5, 1]) parts.push(svg("text", { class: "tick", x: x(f), y: height - bottom + 15, "text-anchor": "middle" }, percentOf(f)));
    parts.push(svg("text", { class: "tick", x: x(0.5), y: height - 4, "text-anchor": "middle" }, "of active latents kept"));
    const taken = [];
    const free = (wanted) => { let place = wanted; while (taken.some((other) => Math.abs(other - place) < 13)) place += 2; taken.push(place); return place; };
    lines.forEach(([order, points], n) => {
      const middle = points[Math.floor(points.length / 2)];
      parts.push(svg("path", { class: `line s${n + 1} ${order}`, d: points.map(([f, kl], i) => `${i ? "L" : "M"}${x(f)},${y(kl)}`).join("") }),
        ...points.map(([f, kl]) => svg("circle", { class: `mark s${n + 1}${state.condition === order && f === state.fraction ? " here" : ""}`, cx: x(f), cy: y(kl), r: 3.5 }, svg("title", {}, `${order === "top" ? "strongest" : "random"} ${percentOf(f)}: KL ${nats(kl)} nats`))),
        svg("text", { class: `tick t${n + 1}`, x: x(middle[0]), y: y(middle[1]) + (order === "top" ? 16 : -8), "text-anchor": "middle" }, order === "top" ? "strongest" : "random"));
    });
    marks.forEach((name) => {
      const line = svg("line", { class: `reference ${what(name)}${name === label() ? " here" : ""}`, x1: left, x2: width - right, y1: y(at(name)), y2: y(at(name)) }, svg("title", {}, `${named(name)}: KL ${nats(at(name))} nats`));
      parts.push(line);
      if (detailOf(name) === state.kind) parts.push(svg("text", { class: "tick", x: width - right + 4, y: free(y(at(name)) + 4) }, what(name) === "help" ? "found" : "simulated"));
    });
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `KL at this token by condition, in nats: ${lines.map(([order, points]) => `${order} ${points.map(([f, kl]) => `${percentOf(f)} ${nats(kl)}`).join(", ")}`).join("; ")}; ${marks.map((name) => `${named(name)} ${nats(at(name))}`).join(", ")}` }, ...parts);
    drawing.addEventListener("click", (event) => {
      const f = (event.offsetX / drawing.clientWidth * width - left) / (width - left - right);
      const nearest = stops.reduce((best, stop) => Math.abs(stop - f) < Math.abs(best - f) ? stop : best);
      update({ condition: ordered(state.condition) ? state.condition : "top", fraction: nearest });
    });
    return element("figure", {}, drawing, element("figcaption", {}, "KL of this prediction (nats, logarithmic) by the part of each token’s active latents kept; lines across: found and simulated. Click to choose a fraction."));
  };

  // Latents at the token read.
  const listed = () => {
    const name = label(), text = textOf(name), step = state.token - 1;
    const active = prompt.active[text][step] ?? [], said = prompt.said[text][state.kind]?.[step];
    const predicted = new Map((said?.latents ?? []).map(([latent, p, value]) => [latent, { p, simulated: value }]));
    const most = keeps(name, active.length);
    const isKept = (place, lot, p) => ({ coder: () => true, none: () => false, top: () => place < most, random: () => lot < most }[what(name)]
      ?? (() => p === undefined ? null : p >= manifest.found_at))();
    const found = active.map(([latent, value, lot], place) => {
      const mine = predicted.get(latent);
      predicted.delete(latent);
      return { latent, value, place: place + 1, kept: isKept(place, lot, mine?.p), p: mine?.p, simulated: mine?.simulated };
    });
    for (const [latent, mine] of predicted) found.push({ latent, value: 0, wrong: true, ...mine });
    return { found, said, active: active.length };
  };
  const MARKS = { true: ["✓", "kept"], false: ["✗", "missed"], null: ["–", "none"], wrong: ["＋", "wrong"] };
  const byFraction = () => ordered(state.condition);  // false alarms are then beside the point, unless asked for
  const words = (row) => {
    if (row.wrong) return "false alarm";
    if (row.kept === null) return "no explanation";
    return byFraction() ? (row.kept ? "kept" : "left out") : row.kept ? "found" : "missed";
  };
  const showLatents = () => {
    const { found, said, active } = listed();
    const token = prompt.texts[textOf(label())][state.token - 1];
    $("latents-title").replaceChildren("Latents at ", element("span", { class: "mono quote" }, short(token ?? "") || (state.token === 1 ? "BOS" : "∅")));
    const kept = found.filter((row) => row.kept).length;
    const parts = [`${active} of ${prompt.latents.toLocaleString("en")} latents under study are active`];
    if (ordered(state.condition)) parts.push(`${kept} kept`);
    if (said?.counts) {
      const [asked, hits, missed, , alarms] = said.counts, shown = said.latents.length - hits - missed;
      parts.push(`explanations${several ? ` (${state.kind})` : ""} find ${hits} of ${hits + missed}`,
        `${alarms} false alarm${alarms === 1 ? "" : "s"} among ${(asked - hits - missed).toLocaleString("en")} silent ones asked about${alarms > shown ? ` (${shown} shown)` : ""}`);
    } else if (state.token > 1) parts.push("explanations were not asked about this text");
    $("counted").textContent = `${parts.join("; ")}.`;
    const query = $("search").value.trim().toLowerCase(), filter = $("filter").value, order = $("order").value;
    const fits = (row) => ({ all: !row.wrong || !byFraction(), kept: row.kept === true, missed: row.kept === false, false: row.wrong === true })[filter]
      && (!query || `#${row.latent} ${explanations[state.kind][row.latent] ?? ""}`.toLowerCase().includes(query));
    const keys = { value: (row) => -row.value, probability: (row) => -(row.p ?? -1), simulated: (row) => -(row.simulated ?? -1), id: (row) => row.latent };
    rows = found.filter(fits).sort((a, b) => keys[order](a) - keys[order](b) || a.latent - b.latent);
    if (!rows.some((row) => row.latent === state.latent)) state.latent = rows[0]?.latent ?? null;
    largest = Math.max(1e-9, ...rows.map((row) => Math.max(row.value, row.simulated ?? 0)));
    if (scrolled) $("latents").scrollTop = scrolled = 0;
    made = null;
    showRows();
    if (!rows.length) $("latents").replaceChildren(element("li", { class: "empty" }, active ? "Nothing to show with this filter." : "No latent is active here."));
  };

  // Rows have one height, and only those in sight (and some around them) exist: a thousand cost no more than ten.
  const ROW_REM = 5.75, AROUND = 12;
  let largest = 1, made = null, scrolled = 0, seen = 0;  // pixels scrolled and seen: asking the browser each time is slow
  const rowHeight = () => ROW_REM * parseFloat(getComputedStyle(root).fontSize);
  const showRows = () => {
    const list = $("latents"), height = rowHeight();
    const top = Math.floor(scrolled / height), bottom = Math.min(rows.length, Math.ceil((scrolled + seen) / height));
    if (made && made[0] <= top && made[1] >= bottom) return;
    const [first, last] = made = [Math.max(0, top - AROUND), Math.min(rows.length, bottom + AROUND)];
    const focused = list.contains(document.activeElement);
    const space = (count) => element("li", { class: "space", "aria-hidden": "true", style: { height: `${count * height}px` } });
    list.replaceChildren(space(first), ...rows.slice(first, last).map((row, n) => {
      const [mark, style] = MARKS[row.wrong ? "wrong" : String(row.kept)];
      const text = explanations[state.kind][row.latent];
      const facts = [`#${row.latent}`, `activation ${number(row.value)}`, ...(known(row.p) ? [`P(active) ${number(row.p)}`] : []), ...(known(row.simulated) ? [`simulated ${number(row.simulated)}`] : [])];
      return element("li", { "aria-posinset": first + n + 1, "aria-setsize": rows.length }, element("button", { type: "button", "data-latent": row.latent, tabindex: row.latent === state.latent ? "0" : "-1", ...(row.latent === state.latent ? { "aria-current": "true" } : {}) },
        element("span", { class: `mark ${style}` }, element("b", { "aria-hidden": "true" }, mark), element("span", {}, words(row))),
        element("span", { class: `text${text ? "" : " soft"}` }, text ?? "no explanation"),
        element("span", { class: "bars", "aria-hidden": "true" }, element("i", { class: "true", style: { "--w": `${100 * row.value / largest}%` } }), ...(known(row.simulated) ? [element("i", { class: "said", style: { "--w": `${100 * row.simulated / largest}%` } })] : [])),
        element("span", { class: "facts" }, facts.join(" · "))));
    }), space(rows.length - last));
    if (focused) (list.querySelector("[tabindex='0']") ?? list).focus({ preventScroll: true });
  };

  const showDetail = async () => {
    const latent = state.latent, body = $("detail-body");
    $("detail-title").textContent = latent === null ? "Chosen latent" : `Latent ${latent}`;
    if (latent === null) { body.replaceChildren(element("p", { class: "soft" }, "None.")); return; }
    const record = chunkOf.has(latent) ? (await unpack(chunkOf.get(latent)))[latent] : null;
    if (latent !== state.latent) return;
    const row = rows.find((one) => one.latent === latent);
    const text = textOf(label());
    const facts = [];
    if (row) facts.push(["here", [`${words(row)}; activation ${number(row.value)}`, ...(known(row.p) ? [`P(active) ${number(row.p)}`] : []), ...(known(row.simulated) ? [`simulated ${number(row.simulated)}`] : [])].join("; ")]);
    if (record) {
      facts.push(["active at", `${percent(record.density)} of tokens`], ["robust maximum", number(record.max)]);
      for (const [kind, scores] of Object.entries(record.scores)) for (const score of scores)
        facts.push([score.name + (several ? ` (${kind})` : ""), `balanced accuracy ${number(score.value)} (${number(score.low)} to ${number(score.high)}), n = ${score.n}`]);
    }
    const said = manifest.kinds.filter((kind) => several || explanations[kind][latent]).flatMap((kind) => [
      ...(several ? [element("h4", {}, kind)] : []), element("blockquote", {}, explanations[kind][latent] ?? "No explanation.")]);
    body.replaceChildren(...said, element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
      element("h3", {}, "In this text"), inText(latent, text, record),
      ...(record ? [element("h3", {}, "Strongest contexts"), ...record.top.map(context),
        ...(record.quantiles.length ? [element("h3", {}, "Over its activation ranks, strongest first"), ...record.quantiles.map(context)] : [])]
        : [element("p", { class: "soft" }, "Its contexts were left out to keep the page small.")]));
  };
  const inText = (latent, text, record) => {
    const line = element("div", { class: "context two" });
    const active = prompt.active[text].map((step) => step.find(([id]) => id === latent)?.[1] ?? 0);
    const said = (prompt.said[text][state.kind] ?? []).map((step) => step.latents.find(([id]) => id === latent)?.[2] ?? 0);
    const scale = record?.max || Math.max(...active, 1e-9);
    const steps = (value) => Math.ceil(99 * Math.min(1, value / scale) - 1e-6);
    prompt.texts[text].slice(1, -1).forEach((token, i) => {
      const [truth, simulated] = [active[i + 1], said[i + 1] ?? 0];
      const style = {};
      if (truth > 0) style["--p"] = shade(steps(truth));
      if (simulated > 0) style["--q"] = shade(steps(simulated));
      line.append(element("span", { class: `token${i + 1 === state.token - 1 ? " here" : ""}`, title: `true ${number(truth)}, simulated ${number(simulated)}`, style }, visible(token)));
    });
    const key = element("p", { class: "key" }, element("b", { class: "t" }, "true activation"), " as background, ", element("b", { class: "s" }, "simulated"), " (where stored) as underline.");
    return element("div", {}, line, key);
  };

  // Controls.
  const PILLS = { top: "strongest latents", random: "random latents", help: "found latents", simulated: "simulated values" };
  const possible = (condition, kind = state.kind) => ordered(condition) ? prompt.conditions.some((name) => what(name) === condition) : prompt.conditions.includes(`${condition}:${kind}`);
  const pill = (value) => element("label", {}, element("input", { type: "radio", name: "condition", value }), element("span", {}, PILLS[value]));
  const showControls = () => {
    $("prompt").value = String(state.prompt);
    for (const input of document.querySelectorAll("#controls input[type=radio]")) input.checked = input.value === (input.name === "mode" ? state.mode : state.condition);
    for (const input of $("conditions").querySelectorAll("input")) input.disabled = !possible(input.value);
    $("fraction").value = String(stops.indexOf(state.fraction));
    const said = state.fraction <= 0 ? "none" : state.fraction >= 1 ? "all" : percentOf(state.fraction);
    $("kept").textContent = said;
    $("fraction").setAttribute("aria-valuetext", said);
    $("fraction").disabled = !ordered(state.condition);
    $("slide").classList.toggle("off", !ordered(state.condition));
    $("compare").value = state.compare;
    $("kind").value = state.kind;
  };
  const buildControls = () => {
    manifest.prompts.forEach((one, n) => $("prompt").append(element("option", { value: n + 1 }, `${n + 1}. ${one.text.trim().replace(/\s+/g, " ").slice(0, 70)}…${one.source ? ` (${one.source})` : ""}`)));
    $("conditions").append(...Object.keys(PILLS).filter((value) => manifest.kinds.some((kind) => possible(value, kind))).map(pill));
    $("compare").append(element("option", { value: "" }, "nothing"), ...prompt.conditions.filter((name) => name !== "clean").map((name) => element("option", { value: name }, named(name))));
    $("kind").append(...manifest.kinds.map((kind) => element("option", { value: kind }, kind)));
    $("kind-label").hidden = !several;
    $("modes").hidden = !Object.keys(prompt.free).length;
    $("fraction").max = String(stops.length - 1);
  };

  // State from and to the address; what does not fit is left as it was.
  const valid = {
    prompt: (value) => manifest.prompts[value - 1] && Number(value),
    mode: (value) => ["same", "own"].includes(value) && value,
    condition: (value) => Object.hasOwn(PILLS, value) && value,
    fraction: (value) => stops.includes(Number(value)) && Number(value),
    compare: (value) => (value === "" || prompt.conditions.includes(value)) && value,
    token: (value) => /^\d+$/.test(value) && Number(value) >= 1 && Number(value),
    latent: (value) => /^\d+$/.test(value) && Number(value),
    kind: (value) => manifest.kinds.includes(value) && value,
  };
  const asked = () => {
    const changes = {};
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
      const found = valid[key]?.(value);
      if (found !== undefined && found !== false) changes[key] = found;
    }
    return changes;
  };
  const remember = () => {
    const entries = Object.entries({ ...state, fraction: ordered(state.condition) ? state.fraction : null }).filter(([, value]) => value !== null);
    const hash = `#${new URLSearchParams(entries)}`;
    if (hash !== location.hash) attempt(() => history.replaceState(null, "", hash));
  };

  const load = async (number) => {
    prompt = await unpack(`prompt-${number - 1}`);
    const fractions = prompt.conditions.filter((name) => ordered(what(name))).map((name) => Number(detailOf(name)));
    stops = [0, ...[...new Set(fractions)].sort((a, b) => a - b), 1];
  };
  const update = async (changes, focus = null) => {
    if (changes.prompt && changes.prompt !== state.prompt) { await load(changes.prompt); state.token = 0; }
    Object.assign(state, changes);
    if (!possible(state.condition)) state.condition = ["help", "top"].find((other) => possible(other));
    state.token = Math.min(state.token || prompt.begun, columns() - 1);
    showControls();
    showStrip();
    showNext();
    showLatents();
    remember();
    if (focus) document.querySelector(focus)?.focus();
    await showDetail();
  };
  const failed = (error) => { $("said").textContent = `This page’s data cannot be read: ${error}`; $("app").hidden = false; };
  const go = (changes, focus) => { update(changes, focus).catch(failed); };

  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("input", ({ target }) => {
    if (target.id === "prompt") go({ prompt: Number(target.value) });
    else if (target.id === "fraction") go({ fraction: stops[Number(target.value)] });
    else go({ [target.name || target.id]: target.value });
  });
  for (const id of ["filter", "order", "search"]) $(id).addEventListener("input", () => { showLatents(); showDetail().catch(failed); });
  const stepped = (event, steps, count, at) => {
    const step = steps[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return null;
    event.preventDefault();
    return Math.min(count - 1, Math.max(0, at + step));
  };
  $("strip").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) go({ token: Number(button.dataset.t) }, `#strip [data-t="${button.dataset.t}"]`);
  });
  $("strip").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      document.querySelector("#latents [tabindex='0']")?.focus();
      return;
    }
    const to = stepped(event, { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }, columns() - 1, state.token - 1);
    if (to !== null) go({ token: to + 1 }, `#strip [data-t="${to + 1}"]`);
  });
  const choose = (latent, focus) => {
    state.latent = latent;
    const list = $("latents"), height = rowHeight(), top = rows.findIndex((row) => row.latent === latent) * height;
    if (focus) list.scrollTop = scrolled = Math.max(top + height - seen, Math.min(top, scrolled));
    showRows();
    for (const button of $("latents").querySelectorAll("button")) {
      const mine = Number(button.dataset.latent) === latent;
      button.tabIndex = mine ? 0 : -1;
      if (mine) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
      if (mine && focus) button.focus({ preventScroll: true });
    }
    remember();
    showDetail().catch(failed);
  };
  $("latents").addEventListener("scroll", () => { scrolled = $("latents").scrollTop; showRows(); }, { passive: true });
  new ResizeObserver(() => { seen = $("latents").clientHeight; showRows(); }).observe($("latents"));
  $("latents").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(Number(button.dataset.latent), false);
  });
  $("latents").addEventListener("keydown", (event) => {
    if (event.key === "Escape") { document.querySelector("#strip [tabindex='0']").focus(); return; }
    const at = rows.findIndex((row) => row.latent === state.latent);
    const to = stepped(event, { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6, Home: -Infinity, End: Infinity }, rows.length, at);
    if (to !== null && rows.length) choose(rows[to].latent, true);
  });
  window.addEventListener("hashchange", () => go(asked()));

  const start = async () => {
    const wanted = Number(new URLSearchParams(location.hash.slice(1)).get("prompt"));
    if (manifest.prompts[wanted - 1]) state.prompt = wanted;
    explanations = await unpack("explanations");
    await load(state.prompt);
    if (!stops.includes(state.fraction)) state.fraction = stops[Math.floor(stops.length / 2)];
    if (stops.length === 2) state.condition = "help";
    buildControls();
    showScale();
    $("app").hidden = false;
    seen = $("latents").clientHeight;
    await update(asked());
    root.dataset.ready = "1";
  };
  start().catch(failed);
})();
