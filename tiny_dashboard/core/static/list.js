/* The list of features beside the detail, its plot, and the keys: for the app and the static site alike.

   tinyDashboardList(host, ask, open, tell) fills `host`; it begins as the address's `find` and `sort` say, and tells the
   address of others. `ask.find(request)` and `ask.cloud(request)` answer, as promises,
   what `FeatureTable.find` and `.cloud` answer (or {error}); a request is {view, query, sort, descending, page,
   size, feature}, and find adds {columns, place: of `feature` among the rows, or -1; said: a sentence of what is not
   searched; again: whether it may be asked again soon, for more}. `open(feature)` shows one. */
function tinyDashboardList(host, ask, open, tell) {
  const SIZE = 50, SHORT = { relative_norm_difference: "norm", decoder_cosine: "cosine", max_activation: "max" };
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  // A number is never cut: it has as many digits as its column holds.
  const fitted = (width, ...ways) => ways.find((text) => text.replace("-", "").length <= width) ?? ways.at(-1).replace("e+", "e");
  const rounded = (v, digits) => String(Number(v.toPrecision(digits)));
  const number = (v) => fitted(6, ...(Math.abs(v) >= 0.1 && Math.abs(v) < 1000 ? [v.toFixed(2)] : []), rounded(v, 3), rounded(v, 2), v.toExponential(1));
  const percent = (v) => `${v && v < 0.01 ? fitted(5, rounded(v, 1), v.toExponential(0)) : fitted(5, v.toFixed(2), v.toFixed(0))}%`;
  const cell = (kind, v) => (v === null || v === undefined ? "" : kind === "text" ? v : kind === "count" ? fitted(7, String(v), v.toExponential(1)) : kind === "percent" ? percent(100 * v) : number(v));
  const short = ({ name, title }) => SHORT[name] ?? title;

  const search = make("input", {
    id: "td-search", type: "search", "aria-label": "Filter the features", autocomplete: "off", spellcheck: "false",
    placeholder: "filter: words   density<1%   max>10",
  });
  const presets = make("div", { class: "td-presets" }), plot = make("div", { class: "td-cloud" });
  const count = make("span", { role: "status" }), unsearched = make("small"), said = make("div", { class: "td td-note td-fine", role: "alert", hidden: "" });
  const body = make("tbody"), heads = make("tr");
  const table = make("table", {}, make("thead", {}, heads), body);
  const scroll = make("div", { class: "td-scroll", tabindex: "0", role: "region", "aria-label": "Features" }, table);
  host.replaceChildren(make("div", { class: "td td-table" }, search, presets, said, plot, make("div", { class: "td-bar" }, count, unsearched), scroll));

  const ofAddress = () => { // "-name" is sorted from the largest on
    const given = new URLSearchParams(location.search), [, sign, sort] = /^(-?)(.*)$/.exec(given.get("sort") ?? "");
    return { view: given.get("view") ?? "", query: (given.get("find") ?? "").trim(), sort: sort || "feature", descending: !!sign };
  };
  let state = ofAddress(), current = null, place = -1, total = 0, told = 0, columns = [];
  search.value = state.query;
  let pages = new Map(), turn = 0, height = 28, drawn = null, cloud = {};

  const fetchPage = async (page) => {
    if (pages.has(page)) return pages.get(page);
    const mine = turn, kept = pages, feature = current;
    const asked = ask.find({ ...state, page, size: SIZE, feature }).then((answer) => {
      if (mine !== turn) return null;
      if (answer.error) throw new Error(answer.error);
      [total, told] = [answer.total, answer.told ?? answer.total];
      unsearched.textContent = answer.said ?? "";
      if (answer.again) setTimeout(() => mine === turn && load("scroll"), 700);
      columns = answer.columns.filter(({ name }) => name !== "label_source"); // the label says it at the pointer
      if (feature === current) place = answer.place;
      kept.set(page, answer.features);
      return answer.features;
    });
    kept.set(page, asked);
    asked.catch(() => kept.delete(page));
    return asked;
  };
  const rowAt = async (at) => (await fetchPage(Math.floor(at / SIZE) + 1))?.[at % SIZE];

  const row = (feature, at) => {
    const link = make("button", { type: "button", tabindex: "-1" }, String(feature.feature));
    const cells = columns.map(({ name, kind }) => {
      const td = make("td", { class: kind === "text" ? "td-text" : "" });
      const value = feature[name];
      if (name === "label" && feature.chips) td.append(...value.split(" ").slice(0, 8).map((token) => make("code", {}, token)));
      else td.append(cell(kind, value));
      if (kind === "text" && value) td.title = name === "label" && feature.label_source ? `${value} (by ${feature.label_source})` : value;
      return td;
    });
    return make("tr", { "data-at": at, "data-feature": feature.feature, "aria-rowindex": at + 2 }, make("td", {}, link), ...cells);
  };
  const point = () => {
    for (const tr of body.rows) tr.dataset.feature === String(current) ? tr.setAttribute("aria-current", "true") : tr.removeAttribute("aria-current");
  };
  const draw = async () => {
    const mine = turn, room = Math.ceil(scroll.clientHeight / height) || 20;
    const top = Math.floor(scroll.scrollTop / height), first = Math.max(0, top - 10), last = Math.min(total, top + room + 10);
    const wanted = [];
    for (let page = Math.floor(first / SIZE) + 1; page <= Math.ceil(last / SIZE); page++) wanted.push(fetchPage(page));
    try { await Promise.all(wanted); } catch { return; } // `load` says why
    if (mine !== turn) return;
    if (drawn?.turn === turn && drawn.first <= top && Math.min(total, top + room) <= drawn.last) return point();
    drawn = { turn, first, last };
    const rows = [];
    for (let at = first; at < last; at++) {
      const page = pages.get(Math.floor(at / SIZE) + 1);
      if (Array.isArray(page) && page[at % SIZE]) rows.push(row(page[at % SIZE], at));
    }
    const space = (n) => (n > 0 ? [make("tr", { class: "td-space", "aria-hidden": "true", style: `height:${n * height}px` })] : []);
    body.replaceChildren(...space(first), ...rows, ...space(total - first - rows.length));
    point();
    if (rows[0]) height = rows[0].getBoundingClientRect().height || height;
    table.setAttribute("aria-rowcount", total + 1);
  };
  const head = () => {
    const known = [{ name: "feature", title: "feature", says: "its number" }, ...columns];
    const focused = heads.contains(document.activeElement) && document.activeElement.dataset.sort;
    heads.replaceChildren(...known.map((column) => {
      const mine = column.name === state.sort, button = make("button", { type: "button", "data-sort": column.name }, short(column));
      const th = make("th", { scope: "col", title: column.says, class: column.kind === "text" ? "td-text" : "" }, button);
      if (mine) th.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      return th;
    }));
    if (focused) heads.querySelector(`[data-sort="${CSS.escape(focused)}"]`)?.focus();
    // Columns keep their widths: a list that is too narrow for all of them scrolls.
    table.style.setProperty("--td-wide", `${known.reduce((sum, { kind }) => sum + (kind === "text" ? 6 : 4.1), 0)}rem`);
  };

  /* --- the plot of all features --- */
  const svgNode = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const real = ({ low, high, log }, part) => { const v = low + part * (high - low); return log ? 10 ** v : v; };
  const typed = (axis, v) => (axis.name === "density" ? `${Number((100 * v).toPrecision(3))}%` : Number(v.toPrecision(3)));
  const without = (query, names) => query.split(/\s+/).filter((term) => !names.some((name) => new RegExp(`^${name}[<>=!]`).test(term))).join(" ");
  const drawCloud = () => {
    plot.hidden = !cloud.cells;
    if (!cloud.cells) return;
    const { x, y, cells } = cloud, levels = {};
    for (const [i, j, all, found] of cells) {
      for (const [n, kind] of [[all, "all"], [found, "found"]]) {
        if (!n) continue;
        const level = Math.min(4, 1 + Math.floor(Math.log2(n) / 2));
        (levels[`${kind} td-l${level}`] ??= []).push(`M${i + 0.5} ${y.size - j - 0.5}h0`);
      }
    }
    const svg = svgNode("svg", { viewBox: `0 0 ${x.size} ${y.size}`, preserveAspectRatio: "none", role: "img", "aria-label": `all features, ${x.title} against ${y.title}; drag to filter` });
    for (const kind of Object.keys(levels).sort()) svg.append(svgNode("path", { class: `td-${kind}`, d: levels[kind].join("") }));
    const here = svgNode("path", { class: "td-here" }), brush = svgNode("rect", { class: "td-brush" });
    svg.append(brush, here);
    const ends = (axis, part) => typed(axis, real(axis, part));
    plot.replaceChildren(svg, make("div", { class: "td-ends" }, make("span", {}, `${ends(x, 0)} `), make("span", {}, `${x.title}${x.log ? ", log scale" : ""} `), make("span", {}, `${ends(x, 1)}`)),
      make("small", { class: "td-up" }, `${y.title} ${ends(y, 0)} to ${ends(y, 1)}`));
    let from = null;
    const at = (event) => {
      const box = svg.getBoundingClientRect(), clip = (v) => Math.max(0, Math.min(1, v));
      return [clip((event.clientX - box.left) / box.width), clip(1 - (event.clientY - box.top) / box.height)];
    };
    const span = (a, b) => [[Math.min(a[0], b[0]), Math.max(a[0], b[0])], [Math.min(a[1], b[1]), Math.max(a[1], b[1])]];
    svg.addEventListener("pointerdown", (event) => { from = at(event); svg.setPointerCapture(event.pointerId); event.preventDefault(); });
    svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [[l, r], [b, t]] = span(from, at(event));
      for (const [name, value] of Object.entries({ x: l * x.size, y: (1 - t) * y.size, width: (r - l) * x.size, height: (t - b) * y.size })) brush.setAttribute(name, value);
    });
    svg.addEventListener("pointerup", (event) => {
      if (!from) return;
      const box = span(from, at(event)), rest = without(search.value, [x, y].map(short));
      from = null;
      const small = box.every(([low, high]) => high - low < 0.02);
      const terms = small ? [] : [x, y].flatMap((axis, i) => [
        ...(box[i][0] > 0 ? [`${short(axis)}>${typed(axis, real(axis, box[i][0]))}`] : []),
        ...(box[i][1] < 1 ? [`${short(axis)}<${typed(axis, real(axis, box[i][1]))}`] : []),
      ]);
      filter([...terms, rest].filter(Boolean).join(" "));
    });
    mark();
  };
  const mark = () => { // where the shown feature stands in the plot
    const here = plot.querySelector(".td-here"), page = pages.get(Math.floor(place / SIZE) + 1), known = Array.isArray(page) && page[place % SIZE];
    if (!here) return;
    const parts = known?.feature === current ? [cloud.x, cloud.y].map((axis) => {
      const v = known[axis.name];
      return v === null || v === undefined || (axis.log && !(v > 0)) ? NaN : ((axis.log ? Math.log10(v) : v) - axis.low) / (axis.high - axis.low);
    }) : [NaN, NaN];
    here.setAttribute("d", parts.every(Number.isFinite) ? `M${parts[0] * cloud.x.size} ${(1 - parts[1]) * cloud.y.size}h0` : "");
  };

  /* --- filters in a click --- */
  const starKey = () => `tiny-dashboard stars ${location.pathname} ${state.view}`.trim();
  const stars = () => { try { return JSON.parse(localStorage.getItem(starKey())) || []; } catch { return []; } };
  const preset = (title, name, terms, says) => {
    const on = terms.split(" ").every((term) => search.value.split(/\s+/).includes(term));
    const button = make("button", { type: "button", "aria-pressed": on, title: says }, title);
    button.onclick = () => filter([on ? "" : terms, without(search.value, [name])].filter(Boolean).join(" "));
    return button;
  };
  const drawPresets = () => {
    const shown = [];
    if (columns.some(({ name }) => name === "relative_norm_difference")) {
      shown.push(preset("base-only", "norm", "norm<0.1", "relative norm below 0.1"), preset("shared", "norm", "norm>0.4 norm<0.6", "relative norm from 0.4 to 0.6"), preset("chat-only", "norm", "norm>0.9", "relative norm above 0.9"));
    }
    const kept = stars();
    if (kept.length) {
      const copy = make("button", { type: "button", title: `copy “--features ${kept.join(",")}”` }, "copy");
      copy.onclick = () => navigator.clipboard?.writeText(`--features ${kept.join(",")}`).then(() => { copy.textContent = "copied"; });
      shown.push(preset(`★ ${kept.length}`, "feature", `feature=${kept.join(",")}`, "those with a star, kept in this browser"), copy);
    }
    const focused = presets.contains(document.activeElement) && [...presets.children].indexOf(document.activeElement);
    presets.replaceChildren(...shown);
    if (focused !== false) presets.children[focused]?.focus();
  };

  /* --- asking --- */
  const load = async (keep = false) => {
    const mine = ++turn;
    pages = new Map();
    try {
      const answer = await fetchPage(1);
      if (mine !== turn || !answer) return;
      said.hidden = true;
      search.removeAttribute("aria-invalid");
      count.textContent = state.query ? `${total.toLocaleString("en")} found` : `${total.toLocaleString("en")} features`;
      if (told < total) count.textContent = `${told ? `${told.toLocaleString("en")} found, ${(total - told).toLocaleString("en")} more` : `${total.toLocaleString("en")} found`} by their examples`;
      if (!total) count.textContent = "nothing found";
      head();
      drawPresets();
      tell(list.linked());
      if (keep !== "scroll") scroll.scrollTop = keep && place > 5 ? (place - 3) * height : 0;
      await draw();
      loadCloud(mine);
    } catch (error) {
      if (mine !== turn) return;
      if (keep === true && state.sort !== "feature") { // a link, or a view that has no such column
        state = { ...state, sort: "feature", descending: false };
        return load(keep);
      }
      if (keep === true) { total = 0; body.replaceChildren(); count.textContent = ""; plot.hidden = true; } // what is there is of another view
      said.textContent = error.message;
      said.hidden = false;
      search.setAttribute("aria-invalid", "true");
    }
  };
  const loadCloud = async (mine) => {
    const found = await ask.cloud({ view: state.view, query: state.query }).catch((error) => ({ error }));
    if (mine !== turn || found.error) return;
    cloud = found;
    await rowAt(Math.max(0, place)).catch(() => null);
    drawCloud();
  };
  const filter = (query) => {
    search.value = query;
    if (query.trim() === state.query) return drawCloud();
    state = { ...state, query: query.trim() };
    return load(!state.query); // without a filter the list is where one is
  };
  let asking = false; // a key asks at once, or else when what was asked before it is answered
  search.addEventListener("input", async () => {
    if (asking) return;
    asking = true;
    while (search.value.trim() !== state.query) await filter(search.value);
    asking = false;
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      filter(search.value);
      if (/^\d+$/.test(search.value.trim())) open(search.value.trim());
    } else if (event.key === "Escape") {
      event.stopPropagation();
      filter("");
      search.blur();
    } else if (event.key === "ArrowDown") { event.preventDefault(); scroll.focus(); step(1); }
  });
  heads.addEventListener("click", (event) => {
    const sort = event.target.closest("button")?.dataset.sort;
    if (!sort) return;
    // The largest are asked for first; features and texts are counted from the smallest.
    const text = sort === "feature" || columns.find(({ name }) => name === sort)?.kind === "text";
    state = { ...state, sort, descending: sort === state.sort ? !state.descending : !text };
    load();
  });
  const openAt = async (at) => {
    const found = await rowAt(at).catch(() => null);
    if (!found) return;
    place = at;
    current = found.feature;
    open(current); // first: it takes the longest
    drawStar();
    const top = at * height, box = scroll.clientHeight - heads.getBoundingClientRect().height;
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    else if (top + height > scroll.scrollTop + box) scroll.scrollTop = top + height - box;
    mark();
    draw();
  };
  const step = (by) => { if (total) openAt(place < 0 ? 0 : Math.max(0, Math.min(total - 1, place + by))); };
  body.addEventListener("click", (event) => {
    const at = event.target.closest("tr")?.dataset.at;
    if (at !== undefined) openAt(Number(at));
  });
  scroll.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && !event.target.closest("thead")) { event.preventDefault(); step(by); }
  });
  let frame;
  scroll.addEventListener("scroll", () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(draw); });
  const reveal = () => {
    const top = place * height;
    if (place >= 0 && (top < scroll.scrollTop || top + 2 * height > scroll.scrollTop + scroll.clientHeight)) scroll.scrollTop = Math.max(0, top - 3 * height);
  };
  let seen = true; // a list that comes into sight shows where one is
  new ResizeObserver(() => {
    drawn = null;
    if (!seen) reveal();
    seen = scroll.clientHeight > 0;
    if (total) draw();
  }).observe(scroll);

  const list = {
    step, filter,
    focus: () => search.focus(),
    reload: () => load("scroll"), // what is told of the features is another
    linked: () => ({ find: state.query, sort: (state.descending ? "-" : "") + (state.sort === "feature" && !state.descending ? "" : state.sort) }),
    /* As the address says: a step in the history. */
    follow: () => {
      const next = ofAddress();
      if (JSON.stringify(next) === JSON.stringify(state)) return;
      state = next;
      search.value = state.query;
      drawStar(); // of a view
      load(true);
    },
    /* The feature that is shown now, however it came about; and the view that it is of. */
    current: async (feature, view = state.view) => {
      feature = Number(feature);
      if (view !== state.view) {
        state = { ...state, view };
        current = feature;
        place = -1;
        drawStar();
        await load(true);
        scroll.scrollTop = Math.max(0, (place - 3) * height);
        return draw();
      }
      if (feature === current) return;
      current = feature;
      drawStar();
      const page = pages.get(Math.floor(place / SIZE) + 1);
      if (!Array.isArray(page) || page[place % SIZE]?.feature !== feature) {
        const mine = turn, answer = await ask.find({ ...state, page: 1, size: 1, feature });
        if (mine !== turn || current !== feature || answer.error) return;
        place = answer.place;
        if (place >= 0) {
          reveal();
          await rowAt(place).catch(() => null);
        }
      }
      await draw();
      mark();
    },
    star: (feature) => {
      const kept = stars(), next = kept.includes(feature) ? kept.filter((f) => f !== feature) : [...kept, feature];
      try { localStorage.setItem(starKey(), JSON.stringify(next)); } catch { /* a frame without storage */ }
      drawPresets();
      drawStar();
    },
  };
  const star = () => document.getElementById("td-star");
  const drawStar = () => {
    const on = stars().includes(current);
    star()?.setAttribute("aria-pressed", on);
    star()?.setAttribute("aria-label", "star this feature");
    star()?.setAttribute("title", "keep this feature among those with a star (s)");
    if (star()) star().textContent = on ? "★" : "☆";
  };
  document.addEventListener("click", (event) => { if (event.target.closest?.("#td-star") && current !== null) list.star(current); });
  load(true);
  return list;
}
