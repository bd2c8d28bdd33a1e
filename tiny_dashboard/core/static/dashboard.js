/* What needs a script: the tooltip, unfolding, copying, keys, and the token event. Without it the page still reads.

   tinyDashboard(host, emit) attaches one set of listeners to `host` (the document, or the element that holds the
   fragments); contents may be replaced or patched at any time. It returns a function to call after that, which adds
   the buttons. `emit(kind, detail)` is told of
     "token"    {passage, position, id, text}: a token was clicked, or chosen with Enter (also a "td-token" event)
     "example"  {passage}: an example shall be tried online
     "action"   {action, value}: a button with data-action and data-value was clicked
     "view"     lines became paragraphs, or the other way round: `window.tinyView`.
   Token text only ever becomes a text node. */
function tinyDashboard(host, emit) {
  if (host.tinyDashboard) return host.tinyDashboard(); // a notebook runs this once for each output
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    if (tag === "button") node.type = "button"; // once it is in the page the rules would be asked again
    return node;
  };
  const parsed = new WeakMap(); // root -> {text, data}: parsed again only when the JSON has changed
  const dataOf = (root) => {
    const text = root.querySelector(":scope > script")?.textContent || '{"names":[],"colors":[],"passages":[]}';
    if (parsed.get(root)?.text !== text) parsed.set(root, { text, data: JSON.parse(text) });
    return parsed.get(root).data;
  };
  const tokensOf = (passage) => [...passage.querySelectorAll("i")];
  // "=", so many ids of one number, so many digits of it in base 91, the low ones first; or numbers with spaces between them.
  const DIGITS = [...Array(94).keys()].map((c) => String.fromCharCode(c + 33)).filter((c) => !'"<\\'.includes(c)).join("");
  const idAt = (ids, position) => {
    if (ids[0] !== "=") return Number(ids.split(" ")[position]);
    const [n, width] = [Number(ids[1]), Number(ids[2])], base = Math.floor(91 ** (width / n)), at = 3 + Math.floor(position / n) * width;
    const number = [...ids.slice(at, at + width)].reduceRight((sum, digit) => sum * 91 + DIGITS.indexOf(digit), 0);
    return Math.floor(number / base ** (position % n)) % base;
  };
  // [positions, values] of each track; those of one that colours the tokens alone are their titles.
  const valuesOf = (passage, own) => own.v.map((told) => {
    const lit = told ? [] : tokensOf(passage).flatMap((token, at) => token.hasAttribute("style") ? [[at, Number(token.dataset.title || token.title)]] : []);
    return told ?? [0, 1].map((side) => lit.map((pair) => pair[side]));
  });
  // What else fires there, where that is told beside the fragment: {f: [features of each token], v: [values], names}.
  const strongest = (root, position, shown) => {
    const script = root.parentNode?.querySelector?.(":scope > script.td-strongest");
    if (!script) return [];
    if (parsed.get(script)?.text !== script.textContent) parsed.set(script, { text: script.textContent, data: JSON.parse(script.textContent) });
    const { f, v, names } = parsed.get(script).data;
    return (f[position] ?? []).flatMap((feature, i) => v[position][i] > 0 && !shown.includes(`feature ${feature}`)
      ? [{ name: `${feature} ${names[feature] ?? ""}`, value: v[position][i] }] : []);
  };
  const describe = (token) => {
    const passage = token.closest(".td-p"), root = token.closest(".td"), data = dataOf(root);
    const index = [...root.querySelectorAll(".td-p")].indexOf(passage), own = data.passages[index] || { v: [] };
    const position = tokensOf(passage).indexOf(token), chip = token.querySelector("b[data-x]")?.dataset.x;
    const values = valuesOf(passage, own).flatMap(([at, value], track) => {
      const found = at.indexOf(position);
      return found < 0 ? [] : [{ name: data.names[track], color: data.colors[track], value: value[found] }];
    });
    values.push(...strongest(root, position, data.names));
    return { passage: index, position, id: own.id ? idAt(own.id, position) : null, text: own.x?.[position] ?? token.textContent, chip, values };
  };
  const visible = (text) => text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/\r/g, "␍");

  let tip, current, muted;
  const hide = () => {
    if (muted) muted.title = muted.dataset.title;
    muted?.removeAttribute("data-title");
    current?.classList.remove("td-at");
    tip?.remove();
    muted = current = tip = null;
  };
  const show = (token) => {
    hide();
    const about = describe(token);
    tip = make("div", "td-tip");
    tip.setAttribute("role", "tooltip");
    tip.setAttribute("aria-live", "polite");
    const long = about.text.length > 200 ? about.text.slice(0, 200) + "…" : about.text;
    tip.append(make("code", "", about.chip ? `${visible(long)} ⟨${about.chip}⟩`.trim() : visible(long)));
    tip.append(make("small", "", `token ${about.position}${about.id === null ? "" : ` · id ${about.id}`}`));
    for (const { name, color, value } of about.values) {
      const row = make("div"), dot = make("s");
      dot.style.background = color || "transparent";
      row.append(dot, make("span", "", name), make("strong", "", value));
      tip.append(row);
    }
    token.closest(".td").append(tip);
    tip.popover = "manual"; // on top of all, and placed in the window, whatever transforms or clips stand around it
    tip.showPopover?.();
    const box = token.getClientRects()[0] || token.getBoundingClientRect(), size = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(box.left, innerWidth - size.width - 8)) + "px";
    tip.style.top = (box.bottom + size.height + 12 > innerHeight ? box.top - size.height - 8 : box.bottom + 8) + "px";
    if (token.title) { // the browser's own tooltip would cover ours
      muted = token;
      token.dataset.title = token.title;
      token.title = "";
    }
  };
  const choose = (token) => {
    const { passage, position, id, text } = describe(token), detail = { passage, position, id, text };
    token.dispatchEvent(new CustomEvent("td-token", { bubbles: true, detail }));
    if (emit) emit("token", detail);
  };
  const exact = (passage) => {
    const own = ownOf(passage);
    return tokensOf(passage).map((token, at) => own?.x?.[at] ?? token.textContent);
  };
  const ownOf = (passage) => dataOf(passage.closest(".td")).passages[[...passage.closest(".td").querySelectorAll(".td-p")].indexOf(passage)];
  const linkName = host.closest?.("#td-other-examples") ? "other" : "example"; // in the app two may stand side by side
  const ways = { // what can be copied of an example
    copy: (passage) => exact(passage).join(""),
    link: (passage) => {
      const rows = [...host.querySelectorAll(".td-x")]; // a page may hold those of many features
      return `${location.href.split("#")[0]}#${linkName}-${rows.indexOf(passage.closest(".td-x"))}`;
    },
    JSON: (passage) => {
      const { names } = dataOf(passage.closest(".td")), own = ownOf(passage), tokens = exact(passage);
      const values = valuesOf(passage, own).map(([at, value], track) => [names[track], tokens.map((_, i) => value[at.indexOf(i)] ?? 0)]);
      const ids = own.id ? { token_ids: tokens.map((_, i) => idAt(own.id, i)) } : {};
      const origin = passage.parentNode.querySelector(".td-from")?.textContent;
      return JSON.stringify({ ...(origin && { origin }), tokens, ...ids, activations: Object.fromEntries(values) });
    },
  };
  const copy = async (button, text) => {
    try { await navigator.clipboard.writeText(text); } catch { // no permission, or not a secure page
      const area = make("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const name = button.dataset.copy;
    button.textContent = "copied";
    setTimeout(() => { button.textContent = name; }, 1200);
  };
  /* A band's mark under the histogram leads to its examples, below the card. */
  const toBand = (mark) => {
    const after = (node) => mark.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING;
    const group = [...document.querySelectorAll(".td-group")].find((node) => node.textContent === mark.dataset.value && after(node));
    group?.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    const row = group?.parentNode.querySelectorAll(".td-group + .td-x")[[...group.parentNode.querySelectorAll(".td-group")].indexOf(group)];
    row?.focus({ preventScroll: true });
  };
  const nearestMark = (bars, x) => {
    const away = (mark) => { const { left, right } = mark.getBoundingClientRect(); return Math.max(left - x, x - right); };
    return [...bars.parentNode.querySelectorAll('[data-action="band"]')].sort((a, b) => away(a) - away(b))[0];
  };
  // As the reader wants the examples, from feature to feature, and a link says it.
  window.tinyView ??= new URLSearchParams(location.search).get("as") === "paragraphs" ? "paragraphs" : undefined;
  const asView = (root) => {
    root.dataset.view = window.tinyView;
    root.querySelector(".td-view").textContent = window.tinyView === "lines" ? "paragraphs" : "lines";
    root.querySelectorAll(".td-open").forEach((open) => unfold(open, false));
    // Paragraphs are laid out over several frames, from the top, so that the page never stalls.
    const rows = root.dataset.view === "lines" ? [] : [...root.querySelectorAll(".td-x")], set = (these, shown) => these.forEach((row) => { row.style.contentVisibility = shown; });
    const draw = (drawn) => {
      const next = rows.splice(0, 8);
      set(drawn, "");
      set(next, "visible"); // once, wherever it stands: its height is remembered then
      if (next.length) requestAnimationFrame(() => draw(next));
    };
    set(rows, "hidden");
    requestAnimationFrame(() => draw([]));
  };
  const unfold = (row, open = !row.classList.contains("td-open")) => row.classList.toggle("td-open", open);
  const tokenAt = (event) => event.target.closest?.(".td-p i");

  host.addEventListener("pointerover", (event) => {
    const token = tokenAt(event);
    if (token) show(token);
    else if (tip && !event.target.closest?.(".td-tip")) hide();
  });
  host.addEventListener("pointerleave", hide);
  // Contents that are drawn anew between press and release take the click along: what stands there now is clicked.
  let pressed;
  host.addEventListener("pointerdown", (event) => { pressed = event.button === 0 ? event.target : null; });
  host.addEventListener("pointerup", ({ target }) => {
    if (pressed && !pressed.isConnected && target.textContent === pressed.textContent) target.click?.();
    pressed = null;
  });
  host.addEventListener("click", (event) => {
    const target = event.target, row = target.closest?.(".td-x"), root = target.closest?.(".td");
    if (!root || target.closest("summary")) return;
    if (target.matches(".td-view")) {
      window.tinyView = root.dataset.view === "lines" ? "paragraphs" : "lines";
      // In the app two features may stand side by side; a page of many keeps what is far from here where it is.
      (emit ? [...document.querySelectorAll(".td:has(> .td-bar .td-view)")] : [root]).forEach(asView);
      if (emit) emit("view");
    } else if (target.matches('[data-action="band"]')) toBand(target);
    else if (target.closest(".td-bars")) { const mark = nearestMark(target.closest(".td-bars"), event.clientX); if (mark) toBand(mark); }
    else if (target.closest("[data-action]")) {
      const { action, value = "" } = target.closest("[data-action]").dataset;
      if (emit) emit("action", { action, value });
    } else if (target.matches(".td-try")) {
      emit("example", { passage: [...root.querySelectorAll(".td-x")].indexOf(row) });
    } else if (target.matches("[data-copy]")) copy(target, ways[target.dataset.copy]((row || root).querySelector(".td-p")));
    else if (getSelection().toString()) return; // somebody is selecting text
    else {
      if (row && root.dataset.view === "lines" && (!row.classList.contains("td-open") || target.matches(".td-v"))) unfold(row);
      const token = tokenAt(event);
      if (token) choose(token);
    }
  });
  host.addEventListener("keydown", (event) => {
    const place = event.target.matches?.(".td-x, .td-p") && event.target;
    if (event.key === "Escape" && (tip || place)) {
      if (!tip && place.matches(".td-x")) unfold(place, false);
      hide();
    }
    if (!place || event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = [...place.closest(".td").querySelectorAll(".td-x")].filter((row) => row.checkVisibility()), step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const side = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && rows.includes(place)) {
      const next = rows[rows.indexOf(place) + step];
      if (next) { hide(); place.tabIndex = -1; next.tabIndex = 0; next.focus(); }
    } else if (side) {
      const tokens = tokensOf(place).filter((token) => token.getClientRects().length);
      const start = Math.max(0, tokens.indexOf(place.querySelector(".td-p > span:last-child > i") || tokens[0]));
      const token = current && tokens.includes(current) ? tokens[tokens.indexOf(current) + side] : tokens[start];
      if (token) { show(token); current = token; token.classList.add("td-at"); token.scrollIntoView({ block: "nearest" }); }
    } else if (event.key === "Enter") {
      if (current) choose(current);
      else if (place.matches(".td-x")) unfold(place);
    } else return;
    event.preventDefault();
  });

  const copiers = (row) => Object.keys(ways).filter((way) => row || way !== "link").map((way) => {
    const button = make("button", `td-${way}`, way);
    button.dataset.copy = way;
    button.title = { copy: "copy the exact text", link: "copy a link to this example", JSON: "copy tokens and activations" }[way];
    return button;
  });
  let linked = new RegExp(`^#${linkName}-(\\d+)$`).exec(location.hash)?.[1];
  const enhance = () => {
    hide();
    for (const marked of host.querySelectorAll(".td-marked")) {
      const { answer, token: chosen } = marked.dataset;
      marked.querySelectorAll(".td-p i").forEach((token, at) => {
        token.classList.toggle("td-answer", at >= Number(answer ?? Infinity));
        token.classList.toggle("td-chosen", String(at) === chosen);
      });
    }
    const actions = make("span", "td-actions");
    if (emit && host.closest?.(".td-live")) actions.append(make("button", "td-try", "try online"));
    actions.append(...copiers(true));
    for (const root of host.querySelectorAll(".td")) {
      const bar = root.querySelector(".td-bar");
      if (bar && root.querySelector(".td-list") && !bar.querySelector(".td-view")) {
        bar.querySelector("span").after(make("button", "td-view", root.dataset.view === "lines" ? "paragraphs" : "lines"));
        if (window.tinyView && window.tinyView !== root.dataset.view) asView(root);
      }
      for (const place of root.querySelectorAll(".td-x:not(:has(> .td-actions))")) place.append(actions.cloneNode(true));
      if (bar && root.dataset.view === "text" && !bar.querySelector(".td-copy")) bar.append(...copiers());
      if (!emit) for (const dead of root.querySelectorAll('[data-action="open"], [data-action="nearest"]')) {
        const told = make("span", "td-gone"); // a page without the app cannot go there
        if (dead.dataset.action === "open") told.append(...dead.childNodes);
        dead.replaceWith(told);
      }
      for (const button of root.querySelectorAll("button:not([type])")) button.type = "button";
    }
    const row = linked && host.querySelectorAll(".td-x")[linked];
    if (row) {
      linked = "";
      if (row.closest("details")) row.closest("details").open = true;
      unfold(row, true);
      row.scrollIntoView({ block: "center" });
    }
  };
  enhance();
  return (host.tinyDashboard = enhance);
}
