/* The page's address says what is seen, and the browser's history walks through it.

   tinyDashboardAddress(place) attaches it once, and gives
     tinyAddress(tab, usual, others, values)  writes what a tab shows, where that tab is looked at: `usual` are the names of
                                              `values` with what is not written; `others`, the other tab's names, go. Further
                                              values are fragments: an error that names its field leaves the last link
     tinyAddressPut(given)                    writes further settings of the offline tab, where that is looked at and
                                              asked for: a link to the other tab stays until that is there
     tinyPressed()                            whether a person has pressed another tab since it was asked last
     tinyArrived()                            is told when a place in the history is shown again.
   Another feature, text, view or tab is a step in the history; a setting changes the step, and so does the text that an
   empty tab begins with. Going back writes nothing: the browser has. */
function tinyDashboardAddress(place) {
  if (window.tinyAddress) return;
  let pressed = false, going = 0;
  const looked = () => document.querySelector(".td-tabs [role=tab][aria-selected=true]")?.textContent.trim().split(" ")[0].toLowerCase();
  const write = (tab, given, others) => {
    const url = new URL(location), was = new URL(location).searchParams, now = url.searchParams;
    for (const name of others) now.delete(name);
    now.set("tab", tab);
    for (const [name, value] of Object.entries(given)) value === "" ? now.delete(name) : now.set(name, value);
    const differs = (name) => was.get(name) !== now.get(name);
    const step = was.has("tab") && (differs("tab") || ["view", "feature", "with"].some((name) => name in given && differs(name))
      || ("text" in given && was.has("text") && differs("text")));
    if (step) url.hash = ""; // of an example of another feature
    go(url, step);
  };
  const go = (url, step) => {
    if (url.href !== location.href) history[step ? "pushState" : "replaceState"](null, "", url);
    // A Space lives in a frame of the Hub's page, whose address is the one that people copy.
    if (parent !== window) parent.postMessage({ queryString: url.searchParams.toString() }, "https://huggingface.co");
  };
  const blame = (field) => {
    document.querySelectorAll(":is(.td-line, .td-toolbar) [aria-invalid]").forEach((node) => node.removeAttribute("aria-invalid"));
    document.querySelector(`#td-${field} :is(input, textarea)`)?.setAttribute("aria-invalid", "true");
  };
  const list = () => document.querySelector("#td-table .td-mount")?.tinyList;
  const ofOnline = () => new URLSearchParams(location.search).get("tab") === "online"; // such a link does not say what the other tab shows
  window.tinyAddressPut = (given) => { if (looked() === "offline" && !going && !ofOnline()) write("offline", given, []); };
  window.tinyAddress = (tab, usual, others, values) => {
    const given = {};
    Object.entries(usual).forEach(([name, usually], i) => {
      const value = values[i] ?? "";
      given[name] = value === false || String(value) === usually || String(value).length > 4000 ? "" : value;
    });
    const wrong = values.slice(Object.keys(usual).length).map((html) => /^<div [^>]* data-field="(\w+)">/.exec(html)).find(Boolean);
    if (tab === "offline") {
      list()?.current(given.feature, given.view);
      blame(wrong?.[1]);
      Object.assign(given, list()?.linked(), { as: window.tinyView === "paragraphs" ? "paragraphs" : "" });
    }
    if (tab !== looked()) return;
    if (!going && !wrong) write(tab, given, others);
    if (document.querySelector("gradio-app[src], gradio-app[space]")) return; // in a page of others
    const name = (window.tinyDashboardTitle ??= document.title);
    document.title = given.feature ? `${given.feature} · ${name}` : name;
  };
  window.tinyPressed = () => { const was = pressed; pressed = false; return was; };
  window.tinyArrived = () => { going = Math.max(0, going - 1); };
  addEventListener("popstate", () => {
    if (!ofOnline()) {
      window.tinyView = new URLSearchParams(location.search).get("as") ?? "lines";
      list()?.follow();
    }
    const buttons = ["td-restore", "td-restore-online"].map((id) => document.getElementById(id)).filter(Boolean);
    going = buttons.length;
    buttons.forEach((button) => button.click());
  });
  for (const act of ["pointerdown", "keydown"]) place.addEventListener(act, () => { going = 0; }, true); // a person goes on
  place.addEventListener("click", (event) => {
    const tab = event.target.closest?.(".td-tabs [role=tab]");
    if (tab && tab.getAttribute("aria-selected") !== "true") pressed = true;
  }, true);
}
