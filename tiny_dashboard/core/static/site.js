/* The static site: what the app's Python does, over files that a script of ours brings.

   Data comes by script elements, not by fetch, so that the site also opens from a disk. Each calls
   tinyDashboardData(name, packed), packed being the base64 of deflated JSON: of "index" the columns of the feature
   table, of a group of features [card, examples, note, kind of note] for each, the HTML made by highlight.py. */
(() => {
  const KEPT = 12; // groups of features held at a time
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

  let index, place = new Map(), turn = 0, list;

  /* A feature's card and its examples, as HTML; or what is wrong in their place. */
  const read = async (asked) => {
    try {
      const feature = Number(asked || NaN);
      if (!Number.isInteger(feature) || feature < 0) throw new Error(`feature is '${asked}'; give a whole number`);
      const n = place.get(feature);
      if (n === undefined) {
        const near = [...index.feature].sort((a, b) => Math.abs(a - feature) - Math.abs(b - feature)).slice(0, 3).sort((a, b) => a - b);
        throw new Error(`feature ${feature} has no examples here; of the ${index.feature.length} features that have, the nearest are ${near.join(", ")}`);
      }
      const group = index.starts.findLastIndex((start) => start <= n);
      const [card, examples, said, kind] = (await load(String(group).padStart(5, "0")))[n - index.starts[group]];
      return [card, examples + (said ? note(said, kind).outerHTML : "")];
    } catch (error) {
      return ["", note(error.message, "error").outerHTML];
    }
  };
  const show = async (text, step = true, compared = at("td-with").value) => {
    const mine = ++turn, view = at("td-view"), [asked, other] = [text, compared].map((typed) => String(typed).trim().slice(0, 40));
    at("td-feature").value = asked;
    at("td-with").value = other;
    const slow = setTimeout(() => { if (mine === turn) view.replaceChildren(note("loading …", "loading")); }, 300);
    const [[card, examples], second] = await Promise.all([read(asked), other && read(other)]);
    clearTimeout(slow);
    if (mine !== turn) return; // a newer request is on its way
    // Escaped by highlight.py and `note`; a script element in it does not run.
    view.innerHTML = !second ? card + examples : `<div class="td-compare"><div>${card}</div><div id="td-other-card">${second[0]}</div><div>${examples}</div><div id="td-other-examples">${second[1]}</div></div>`;
    refresh();
    document.title = `${asked} · ${index.title}`;
    list.current(asked);
    address({ feature: asked, with: other }, step);
  };
  const address = (given, step) => {
    const url = new URL(location);
    for (const [name, value] of Object.entries(given)) value ? url.searchParams.set(name, value) : url.searchParams.delete(name);
    try { if (url.href !== location.href) history[step ? "pushState" : "replaceState"](null, "", url); } catch { /* a sandboxed frame */ }
    // A Space lives in a frame of the Hub's page, whose address is the one that people copy.
    if (parent !== window) parent.postMessage({ queryString: url.searchParams.toString() }, "https://huggingface.co");
  };
  const step = (by) => {
    const ids = index.feature, feature = Number(at("td-feature").value || NaN);
    const next = by > 0 ? ids.findIndex((id) => id > feature) : ids.findLastIndex((id) => id < feature);
    show(ids[next < 0 ? (by > 0 ? 0 : ids.length - 1) : next]);
  };

  /* What `core/filters.py` and `FeatureTable` do in Python; a test compares them. */
  const plain = (name) => name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, ""), columnsNow = () => [{ name: "feature", title: "feature", kind: "number" }, ...known()];
  const columnOf = (name) => {
    const key = plain(name), columns = columnsNow(), words = (c) => `${c.title} ${c.name}`.toLowerCase().split(/[^\p{L}\p{N}]+/u);
    return key ? columns.find((c) => [c.name, c.title].some((n) => plain(n) === key)) ?? columns.find((c) => words(c).some((word) => word.startsWith(key))) : undefined;
  };
  const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?%?$/i, compare = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b };
  const condition = ({ name, title, kind }, sign, value) => {
    const values = index[name];
    if (kind === "text") {
      if (!/^!?=$/.test(sign)) throw new Error(`${title} is a text; compare it with = or !=, or type its words alone`);
      return (n) => (values[n].toLowerCase() === value.toLowerCase()) === (sign === "=");
    }
    const parts = value.split(",");
    if (!parts.every((part) => NUMBER.test(part))) throw new Error(`'${value}' after ${title} is no number; write ${title}${sign}0.5, for example`);
    const numbers = parts.map((part) => parseFloat(part) / (part.endsWith("%") ? 100 : 1));
    if (/^!?=$/.test(sign)) return (n) => numbers.includes(values[n]) === (sign === "=");
    return (n) => values[n] !== null && compare[sign](values[n], numbers[0]);
  };
  const lowered = {};
  const says = (phrase, isNumber) => {
    const texts = ["peak_tokens", "top_logits", ...index.columns.filter(({ kind }) => kind === "text").map(({ name }) => name)].map((name) => (lowered[name] ??= index[name].map((text) => text.toLowerCase().replaceAll("␣", " "))));
    return (n) => (isNumber && String(index.feature[n]).startsWith(phrase)) || texts.some((column) => column[n].includes(phrase));
  };
  const matches = (query) => {
    const tests = [], phrases = [];
    const words = query.replace(/"([^"]*)"|([^\s"<>=!]+)(<=|>=|!=|<|>|=)(\S*)/g, (term, quoted, name, sign, value) => {
      if (quoted !== undefined) { phrases.push(quoted); return " "; }
      const column = columnOf(name);
      if (!column) {
        if (!NUMBER.test(value)) return term; // words like any other: code has such signs, too
        throw new Error(`'${name}' in '${term}' is no column; there are ${columnsNow().map((c) => c.title).join(", ")}`);
      }
      if (value) tests.push(condition(column, sign, value)); // else it is being typed
      return " ";
    }).trim().split(/\s+/).join(" ");
    for (const phrase of [...phrases, words].filter(Boolean)) tests.push(says(phrase.toLowerCase(), phrase === words && /^\d+$/.test(phrase)));
    return index.feature.map((_, n) => n).filter((n) => tests.every((test) => test(n)));
  };
  const known = () => index.columns.filter(({ name }) => index[name].some((v) => v !== null && v !== ""));
  const find = async ({ query, sort, descending, page, size, feature }) => {
    try {
      const key = index[sort], rows = matches(query), none = (v) => v === null || v === "";
      const order = (a, b) => (key[a] < key[b] ? -1 : key[a] > key[b] ? 1 : 0);
      // What is not known comes last either way.
      rows.sort((a, b) => none(key[a]) - none(key[b]) || (descending ? order(b, a) : order(a, b)) || a - b);
      const features = rows.slice((page - 1) * size, page * size).map((n) => ({ feature: index.feature[n], chips: index.label?.[n] === index.peak_tokens[n], ...Object.fromEntries(index.columns.map(({ name }) => [name, index[name][n]])) }));
      return { total: rows.length, columns: known(), place: rows.findIndex((n) => index.feature[n] === feature), features };
    } catch (error) { return { error: error.message }; }
  };
  const GRID = [96, 40];
  const cloud = async ({ query }) => {
    const columns = known(), pair = [["relative_norm_difference", "decoder_cosine"], ["density", "max_activation"]].map((names) => names.map((name) => columns.find((c) => c.name === name))).find((axes) => axes.every(Boolean));
    if (!pair) return {};
    let found;
    try { found = new Set(matches(query)); } catch (error) { return { error: error.message }; }
    const log = pair[0].name === "density", of = (axis, n) => { const v = index[axis.name][n]; return v === null ? NaN : log ? Math.log10(v) : v; };
    const rows = index.feature.map((_, n) => n).filter((n) => pair.every((axis) => Number.isFinite(of(axis, n))));
    if (!rows.length) return {};
    const axes = pair.map((axis, i) => {
      const values = rows.map((n) => of(axis, n)), low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
      return { name: axis.name, title: axis.title, log, size: GRID[i], low: low < high ? low : low - 0.5, high: low < high ? high : high + 0.5 };
    });
    const cells = new Map();
    for (const n of rows) {
      const at = axes.map((axis) => Math.min(axis.size - 1, Math.floor((axis.size * (of(axis, n) - axis.low)) / (axis.high - axis.low)))), key = at.join();
      if (!cells.has(key)) cells.set(key, [...at, 0, 0]);
      cells.get(key)[2] += 1;
      cells.get(key)[3] += found.has(n);
    }
    return { x: axes[0], y: axes[1], cells: [...cells.values()] };
  };
  const refresh = tinyDashboard(document, (kind, { action, value } = {}) => {
    if (kind === "view") address({ as: window.tinyView === "lines" ? "" : window.tinyView }, false);
    else if (action === "open") show(value);
  });

  const press = { "td-previous": () => step(-1), "td-next": () => step(1) };
  press["td-random"] = () => show(index.feature[Math.floor(Math.random() * index.feature.length)]);
  const start = (read) => {
    index = read;
    if (!index.feature.length) return at("td-view").replaceChildren(note("the examples are there, and hold no feature"));
    index.feature.forEach((feature, n) => place.set(feature, n));
    for (const [id, call] of Object.entries(press)) at(id).onclick = call;
    at("td-feature").onchange = (event) => show(event.target.value);
    at("td-with").onchange = () => show(at("td-feature").value);
    list = at("td-table").tinyList = tinyDashboardList(at("td-table"), { find, cloud }, show, (given) => address(given, false));
    const views = at("td-views"); // to the same feature of another
    if (views) {
      views.onchange = () => { location.href = `${views.value}?feature=${encodeURIComponent(at("td-feature").value)}`; };
      for (const [id, by] of [["td-view-before", -1], ["td-view-next", 1]]) at(id).onclick = () => { views.selectedIndex = (views.selectedIndex + by + views.length) % views.length; views.onchange(); };
    }
    tinyDashboardKeys(document);
    const linked = () => {
      const { searchParams } = new URL(location);
      show(searchParams.get("feature") ?? index.start, false, searchParams.get("with") ?? "");
    };
    addEventListener("popstate", () => { list.follow(); linked(); });
    linked();
  };
  load("index").then(start, (error) => at("td-view").replaceChildren(note(error.message, "error")));
})();
