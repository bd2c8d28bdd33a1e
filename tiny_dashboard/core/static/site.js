/* The static site: what the app's Python does, over files that a script of ours brings.

   Data comes by script elements, not by fetch, so that the site also opens from a disk. Each calls
   tinyDashboardData(name, packed), packed being the base64 of deflated JSON: of "index" the columns of the feature
   table, of a group of features [card, examples, note, kind of note] for each, the HTML made by highlight.py. */
(() => {
  const PAGE = 25, KEPT = 12; // rows of the table; groups of features held at a time
  const at = (id) => document.getElementById(id);
  const make = (tag, text, attributes = {}) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const note = (text, kind = "empty") => make("div", text, { class: `td td-note td-${kind}`, role: kind === "error" ? "alert" : "status" });

  const arrived = {}, asked = new Map();
  window.tinyDashboardData = (name, packed) => { arrived[name] = packed; };
  const load = (name) => {
    if (!asked.has(name)) {
      const script = make("script", undefined, { src: `data/${name}.js` });
      asked.set(name, new Promise((resolve, reject) => {
        script.onload = resolve;
        script.onerror = () => { asked.delete(name); reject(new Error(`data/${name}.js cannot be loaded; try again`)); };
      }).then(() => {
        const bytes = Uint8Array.from(atob(arrived[name]), (c) => c.charCodeAt(0));
        delete arrived[name];
        script.remove();
        return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
      }));
      document.head.append(script);
      const old = [...asked.keys()].filter((key) => key !== "index");
      if (old.length > KEPT) asked.delete(old[0]);
    }
    return asked.get(name);
  };

  let index, place = new Map(), turn = 0;
  const listed = { query: "", sort: "feature", descending: false, page: 1 };

  const show = async (text) => {
    const mine = ++turn, view = at("td-view"), asked = String(text).trim().slice(0, 40), feature = Number(asked || NaN);
    at("td-feature").value = asked;
    let content;
    try {
      if (!Number.isInteger(feature) || feature < 0) throw new Error(`feature is '${asked}'; give a whole number`);
      const n = place.get(feature);
      if (n === undefined) {
        const near = [...index.feature].sort((a, b) => Math.abs(a - feature) - Math.abs(b - feature)).slice(0, 3).sort((a, b) => a - b);
        throw new Error(`feature ${feature} has no examples here; of the ${index.feature.length} features that have, the nearest are ${near.join(", ")}`);
      }
      const group = index.starts.findLastIndex((start) => start <= n);
      const slow = setTimeout(() => { if (mine === turn) view.replaceChildren(note("loading …", "loading")); }, 300);
      try { content = (await load(String(group).padStart(5, "0")))[n - index.starts[group]]; } finally { clearTimeout(slow); }
    } catch (error) {
      content = ["", "", error.message, "error"];
    }
    if (mine !== turn) return; // a newer request is on its way
    const [card, examples, said, kind] = content;
    view.innerHTML = card + examples; // escaped by highlight.py; a script element in it does not run
    if (said) view.append(note(said, kind));
    refresh();
    document.title = `${asked} · ${index.title}`;
    const url = new URL(location);
    url.searchParams.set("feature", asked);
    try { history.replaceState(null, "", url); } catch { /* a sandboxed frame */ }
    // A Space lives in a frame of the Hub's page, whose address is the one that people copy.
    if (parent !== window) parent.postMessage({ queryString: url.searchParams.toString() }, "https://huggingface.co");
  };
  const step = (by) => {
    const ids = index.feature, feature = Number(at("td-feature").value || NaN);
    const next = by > 0 ? ids.findIndex((id) => id > feature) : ids.findLastIndex((id) => id < feature);
    show(ids[next < 0 ? (by > 0 ? 0 : ids.length - 1) : next]);
  };

  const number = (v) => (Math.abs(v) >= 0.1 && Math.abs(v) < 1000 ? v.toFixed(2) : String(Number(v.toPrecision(3))));
  const cell = (kind, v) => (v === null ? "" : kind === "text" ? v : kind === "percent" ? `${Number((100 * v).toPrecision(3))}%` : number(v));
  const table = () => {
    const { sort, descending } = listed, query = listed.query.toLowerCase(), key = index[sort];
    const texts = ["peak_tokens", ...index.columns.filter(({ kind }) => kind === "text").map(({ name }) => name)];
    let rows = index.feature.map((_, n) => n);
    // Digits find the features whose number begins so, too.
    if (query) rows = rows.filter((n) => String(index.feature[n]).startsWith(query) || texts.some((name) => index[name][n].toLowerCase().includes(query)));
    const order = (a, b) => (key[a] < key[b] ? -1 : key[a] > key[b] ? 1 : 0);
    // What is not known comes last either way.
    rows.sort((a, b) => (key[a] === null) - (key[b] === null) || (descending ? order(b, a) : order(a, b)) || a - b);
    const pages = Math.max(1, Math.ceil(rows.length / PAGE)), page = Math.min(listed.page, pages);
    const root = make("div", undefined, { class: "td td-table" }), bar = make("div", undefined, { class: "td-bar" });
    bar.append(make("span", `${rows.length.toLocaleString("en")} features, page ${page} of ${pages}`));
    for (const [to, sign] of [[page - 1, "‹ back"], [page + 1, "more ›"]]) {
      if (to >= 1 && to <= pages) bar.append(make("button", sign, { "data-action": "page", "data-value": to }));
    }
    const grid = make("table"), head = grid.createTHead().insertRow(), body = grid.createTBody();
    for (const { name, title, says } of [{ name: "feature", title: "feature", says: "its number" }, ...index.columns]) {
      const th = make("th", undefined, { title: says });
      th.append(make("button", title + (name === sort ? (descending ? " ↓" : " ↑") : ""), { "data-action": "sort", "data-value": name }));
      head.append(th);
    }
    for (const n of rows.slice((page - 1) * PAGE, page * PAGE)) {
      const row = make("tr", undefined, { "data-action": "open", "data-value": index.feature[n] }), first = make("td");
      first.append(make("button", index.feature[n]));
      row.append(first, ...index.columns.map(({ name, kind }) => make("td", cell(kind, index[name][n]))));
      body.append(row);
    }
    root.append(bar, grid);
    at("td-table").replaceChildren(root);
    at("td-table").hidden = false;
    refresh();
  };
  const act = (kind, { action, value }) => {
    if (kind !== "action") return;
    if (action === "open") return show(value);
    if (action === "page") listed.page = Number(value);
    else { // the largest are asked for first; features are counted from the smallest
      listed.descending = value === listed.sort ? !listed.descending : value !== "feature";
      Object.assign(listed, { sort: value, page: 1 });
    }
    table();
  };
  const refresh = tinyDashboard(document, act);

  const press = { "td-previous": () => step(-1), "td-next": () => step(1) };
  press["td-random"] = () => show(index.feature[Math.floor(Math.random() * index.feature.length)]);
  press["td-toggle"] = () => { if (at("td-table").hidden) table(); else at("td-table").hidden = true; };
  const buttons = { p: "td-previous", n: "td-next", r: "td-random" };
  const start = (read) => {
    index = read;
    if (!index.feature.length) return at("td-view").replaceChildren(note("the examples are there, and hold no feature"));
    index.feature.forEach((feature, n) => place.set(feature, n));
    for (const [id, call] of Object.entries(press)) at(id).onclick = call;
    at("td-feature").onchange = (event) => show(event.target.value);
    at("td-search").onkeydown = (event) => {
      if (event.key !== "Enter") return;
      const query = event.target.value.trim();
      if (/^\d+$/.test(query)) return show(query);
      Object.assign(listed, { query, page: 1 });
      table();
    };
    document.addEventListener("keydown", (event) => {
      if (event.target.closest?.("input") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/") at("td-search").focus();
      else if (buttons[event.key]) press[buttons[event.key]]();
      else return;
      event.preventDefault();
    });
    show(new URL(location).searchParams.get("feature") ?? index.start);
  };
  load("index").then(start, (error) => at("td-view").replaceChildren(note(error.message, "error")));
})();
