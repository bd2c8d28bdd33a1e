/* What needs a script: the tooltip, unfolding, copying, keys, and the token event. Without it the page still reads.

   tinyDashboard(host, emit) attaches one set of listeners to `host` (the document, or the element that holds the
   fragments); contents may be replaced or patched at any time. It returns a function to call after that, which adds
   the buttons. `emit(kind, detail)` is told of
     "token"    {passage, position, id, text}: a token was clicked, or chosen with Enter (also a "td-token" event)
     "example"  {passage}: an example shall be tried online
     "action"   {action, value}: a button with data-action and data-value was clicked.
   Token text only ever becomes a text node. */
function tinyDashboard(host, emit) {
  if (host.tinyDashboard) return host.tinyDashboard(); // a notebook runs this once for each output
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const parsed = new WeakMap(); // root -> {text, data}: parsed again only when the JSON has changed
  const dataOf = (root) => {
    const text = root.querySelector(":scope > script")?.textContent || '{"names":[],"colors":[],"passages":[]}';
    if (parsed.get(root)?.text !== text) parsed.set(root, { text, data: JSON.parse(text) });
    return parsed.get(root).data;
  };
  const tokensOf = (passage) => [...passage.querySelectorAll("i")];
  // "=", 2 or 3, and so many bytes for each id, the low one first, in base64; or digits with spaces between them.
  const idAt = (ids, position) => {
    if (ids[0] !== "=") return Number(ids.split(" ")[position]);
    const size = Number(ids[1]), bytes = atob(ids.slice(2)).slice(position * size, position * size + size);
    return [...bytes].reduceRight((id, byte) => id * 256 + byte.charCodeAt(0), 0);
  };
  const describe = (token) => {
    const passage = token.closest(".td-p"), root = token.closest(".td"), data = dataOf(root);
    const index = [...root.querySelectorAll(".td-p")].indexOf(passage), own = data.passages[index] || { v: [] };
    const position = tokensOf(passage).indexOf(token), chip = token.querySelector("b[data-x]")?.dataset.x;
    const values = own.v.flatMap(([at, value], track) => {
      const found = at.indexOf(position);
      return found < 0 ? [] : [{ name: data.names[track], color: data.colors[track], value: value[found] }];
    });
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
  const copy = async (button, passage) => {
    const own = dataOf(passage.closest(".td")).passages[describe(passage.querySelector("i")).passage];
    const text = tokensOf(passage).map((token, at) => own?.x?.[at] ?? token.textContent).join("");
    try { await navigator.clipboard.writeText(text); } catch { // no permission, or not a secure page
      const area = make("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1200);
  };
  const unfold = (row, open = !row.classList.contains("td-open")) => row.classList.toggle("td-open", open);
  const tokenAt = (event) => event.target.closest?.(".td-p i");

  host.addEventListener("pointerover", (event) => {
    const token = tokenAt(event);
    if (token) show(token);
    else if (tip && !event.target.closest?.(".td-tip")) hide();
  });
  host.addEventListener("pointerleave", hide);
  host.addEventListener("click", (event) => {
    const target = event.target, row = target.closest?.(".td-x"), root = target.closest?.(".td");
    if (!root || target.closest("summary")) return;
    if (target.matches(".td-view")) {
      const lines = root.dataset.view !== "lines";
      root.dataset.view = lines ? "lines" : "paragraphs";
      target.textContent = lines ? "paragraphs" : "lines";
      root.querySelectorAll(".td-open").forEach((open) => unfold(open, false));
    } else if (target.closest("[data-action]")) {
      const { action, value } = target.closest("[data-action]").dataset;
      if (emit) emit("action", { action, value });
    } else if (target.matches(".td-try")) {
      emit("example", { passage: [...root.querySelectorAll(".td-x")].indexOf(row) });
    } else if (target.matches(".td-copy")) copy(target, row || root.querySelector(".td-p"));
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
    const rows = [...place.closest(".td").querySelectorAll(".td-x")], step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
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

  const enhance = () => {
    hide();
    for (const root of host.querySelectorAll(".td")) {
      const bar = root.querySelector(".td-bar");
      if (bar && root.querySelector(".td-list") && !bar.querySelector(".td-view")) {
        const button = make("button", "td-view", root.dataset.view === "lines" ? "paragraphs" : "lines");
        bar.querySelector("span").after(button);
      }
      for (const place of root.querySelectorAll(".td-x")) {
        if (place.querySelector(".td-copy")) continue;
        const actions = make("span", "td-actions");
        if (emit && host.closest?.(".td-live")) actions.append(make("button", "td-try", "try online"));
        actions.append(make("button", "td-copy", "copy"));
        place.append(actions);
      }
      if (bar && root.dataset.view === "text" && !bar.querySelector(".td-copy")) bar.append(make("button", "td-copy", "copy"));
      for (const button of root.querySelectorAll("button")) button.type = "button";
    }
  };
  enhance();
  return (host.tinyDashboard = enhance);
}
