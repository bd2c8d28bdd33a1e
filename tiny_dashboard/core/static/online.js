/* The online tab's own script: what stands in the fields, against what the view is of.

   tinyDashboardOnline(place, buttons, linked) attaches it once, and gives `tinyOnline(text, done, others)`, which is called after
   each answer with what was said of it (see `Seen.said` in app/online_view.py): `of` are the fields that the view is of,
   `wrong` is [field, sentence], `auto` what an empty highlight stands for, `generate` asks for an answer, `redrawn` is of
   no other text, `link` is written into the address (`others` as for `tinyAddress`, `linked` are all names that it may
   have). It also names keys where they work; `buttons` are those of keys.js. */
function tinyDashboardOnline(place, buttons, linked) {
  if (window.tinyOnline) return;
  const part = (name) => document.getElementById(`td-${name}`);
  const input = (name) => part(name)?.querySelector("textarea, input[type=number], input:not([type=range])");
  const key = /Mac|iP/.test(navigator.platform) ? "⌘⏎" : "Ctrl ⏎";
  let said = {};

  const say = (where, className, role, text) => {
    const node = document.createElement("div");
    node.className = `td ${className}`;
    node.setAttribute("role", role);
    node.textContent = text;
    where.append(node);
  };
  /* A text or a steering that was changed since: the view is out of date, and says how it is made new. */
  const age = () => {
    const of = said.of, view = part("analysis");
    if (!view) return;
    const differs = (name, value) => input(name) && String(input(name).value) !== String(value);
    const text = of?.text && differs("text", of.text);
    const clamp = part("clamp")?.querySelector("input"); // no field is there while its accordion was never opened
    const steering = said.steered && (differs("steer", of.steer) || differs("strength", of.strength) || (clamp && clamp.checked !== of.clamp));
    const says = text ? `changed: ${key} reads it` : steering ? "steering changed: Generate answers anew" : "";
    const pair = view.closest(".td-pair");
    pair.classList.toggle("td-stale", !!says);
    const bar = part("run"), stands = bar.querySelector(".td-says");
    if ((stands?.textContent ?? "") !== says) {
      stands?.remove();
      if (says) say(bar, "td-says", "status", says);
    }
  };
  /* What is wrong stands at its field, or at the text where that field cannot be seen. */
  const blame = () => {
    document.querySelectorAll(".td-wrong").forEach((node) => node.remove());
    document.querySelectorAll("[aria-invalid]").forEach((node) => { if (!node.closest(".td-beside")) node.removeAttribute("aria-invalid"); });
    if (!said.wrong) return;
    const [name, text] = said.wrong, seen = part(name)?.checkVisibility() ? name : "text";
    if (!part(seen)) return;
    say(part(seen), "td-wrong", "alert", text);
    input(seen)?.setAttribute("aria-invalid", "true");
  };
  const mark = () => {
    const marked = part("analysis")?.querySelector(".td-marked");
    if (marked && said.link) {
      const clicked = said.link.token ?? "";
      // On a phone the list stands below the text, out of sight.
      if (clicked && clicked !== marked.dataset.token && innerWidth < 700) part("top").scrollIntoView({ block: "nearest", behavior: "smooth" });
      marked.dataset.token = clicked;
      marked.querySelectorAll(".td-p i").forEach((token, at) => token.classList.toggle("td-chosen", String(at) === marked.dataset.token));
    }
    const highlight = input("highlight");
    if (highlight && said.auto !== undefined) highlight.placeholder = said.auto;
  };
  const follow = () => { age(); blame(); mark(); };
  const run = (on) => {
    const bar = part("run"), held = bar?.contains(document.activeElement);
    bar?.classList.toggle("td-running", on);
    if (held) part(on ? "stop" : "generate")?.focus();
  };

  /* Where a starting point is to be answered, once its tab stands there. */
  const generate = (asked) => {
    if (asked !== said) return;
    const button = part("generate");
    button?.checkVisibility() ? button.click() : setTimeout(generate, 50, asked);
  };

  window.tinyOnline = (text, done, others) => {
    if (done) run(false);
    const heard = text ? JSON.parse(text) : {};
    if (heard.at > (said.at ?? 0)) { // the newest, in whatever order they come
      if (heard.redrawn && said.wrong?.[0] === "text") heard.wrong ??= said.wrong;
      said = heard;
      if (said.generate && !said.wrong) generate(said);
    }
    follow();
    if (!said.link || said.wrong) return;
    tinyAddress("online", Object.fromEntries(linked.map((name) => [name, ""])), others, linked.map((name) => said.link[name]));
  };
  place.addEventListener("input", age);
  place.addEventListener("change", age);
  place.addEventListener("click", (event) => {
    if (event.target.closest?.("#td-generate")) {
      run(true);
      said = { ...said, wrong: undefined }; // that was of what was asked before
      blame();
    }
    if (event.target.closest?.("[data-learnt]")) learnt(true);
    if (event.target.closest?.("[role=tab]")) setTimeout(follow, 300); // its fields are made anew
  });
  place.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, dialog");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest?.("#td-text")) {
      event.preventDefault();
      part("analyze").click();
    } else if (event.key === "Escape" && !typing) part("top")?.querySelector('[data-action="text"]')?.click();
  });
  const learnt = (now) => { // a page that may keep nothing says it again
    try { if (now) localStorage.setItem("td-learnt", 1); now ||= localStorage.getItem("td-learnt"); } catch { /* so it does */ }
    document.documentElement.classList.toggle("td-learnt", !!now);
  };
  learnt(false);
  const name = () => {
    for (const [letter, [id, says]] of Object.entries(buttons)) {
      const named = document.getElementById(id);
      if (!named || named.title) continue;
      named.title = `${says} (${letter})`;
      if (!/\w/.test(named.textContent)) named.setAttribute("aria-label", says); // a glyph is no name
    }
    const button = part("analyze");
    if (button && !button.querySelector("kbd")) button.append(Object.assign(document.createElement("kbd"), { textContent: key }));
  };
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
}
