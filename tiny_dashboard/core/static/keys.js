/* Keys for what is done often, and the sheet that names them; for the app and the static site alike.

   tinyDashboardKeys(place) attaches them. The list's own keys, `/`, `t` and `?`, are added where there is a list. */
function tinyDashboardKeys(place) {
  if (window.tinyDashboardSheet) return;
  const { buttons } = tinyDashboardKeys;
  const list = () => [...document.querySelectorAll("#td-table, #td-table *")].find((node) => node.tinyList)?.tinyList;
  const beside = () => document.querySelector(".td-beside"), seen = (node) => node?.checkVisibility();
  const drawer = (open) => {
    const at = beside();
    if (!at) return;
    const wide = matchMedia("(min-width: 1100px)").matches;
    at.classList.toggle(wide ? "td-alone" : "td-drawer", wide ? open === false || (open === undefined && !at.classList.contains("td-alone")) : open);
    document.getElementById("td-list-button")?.setAttribute("aria-expanded", String(wide ? !at.classList.contains("td-alone") : at.classList.contains("td-drawer")));
  };
  const find = () => { drawer(true); list()?.focus(); };
  const acts = {
    j: [() => list()?.step(1), "down the list"], k: [() => list()?.step(-1), "up the list"],
    "/": [find, "filter the list"], t: [() => drawer(), "show or hide the list"],
  };
  const sheet = document.createElement("dialog");
  sheet.className = "td td-sheet";
  sheet.setAttribute("aria-label", "Keys");
  window.tinyDashboardSheet = sheet;
  const show = () => {
    const line = (keys, says) => {
      const row = document.createElement("tr");
      const [name, text] = [document.createElement("td"), document.createElement("td")];
      for (const key of keys) { const kbd = document.createElement("kbd"); kbd.textContent = key; name.append(kbd, " "); }
      text.textContent = says;
      row.append(name, text);
      return row;
    };
    const table = document.createElement("table"), title = document.createElement("h3");
    title.textContent = "Keys";
    if (beside()) for (const [key, [, says]] of Object.entries(acts)) table.append(line([key], says));
    for (const [key, [id, says]] of Object.entries(buttons)) if (document.getElementById(id)) table.append(line([key], says));
    if (document.getElementById("td-text")) table.append(line(["Ctrl", "⏎"], "analyze the text"));
    table.append(line(["↑", "↓"], "from example to example"), line(["Enter"], "unfold it"), line(["←", "→"], "from token to token"), line(["Esc"], "fold, close, leave the filter or the editor; from a token back to the text"), line(["?"], "this sheet"));
    sheet.replaceChildren(title, table);
    (document.querySelector(".gradio-container") ?? document.body).append(sheet);
    sheet.showModal();
  };
  sheet.addEventListener("click", () => sheet.close());
  // The browser closes it in its own time, and the next key may be faster.
  sheet.addEventListener("keydown", (event) => { if (event.key === "Escape") sheet.close(); });
  place.addEventListener("click", (event) => {
    if (event.target.closest?.("#td-list-button")) drawer();
    else if (beside()?.classList.contains("td-drawer") && !event.target.closest?.(".td-side")) drawer(false);
  });
  place.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable], dialog[open]");
    if (event.key === "Escape" && !typing && beside()?.classList.contains("td-drawer")) drawer(false);
    if (event.key === "Escape") event.target.closest?.("#td-label-editor")?.classList.add("td-hidden");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = buttons[event.key] && document.getElementById(buttons[event.key][0]);
    if (event.key === "?") show();
    else if (seen(button)) button.click();
    else if (acts[event.key] && seen(beside())) acts[event.key][0]();
    else return;
    event.preventDefault();
  });
}
// The button that each key presses, where it is there, and what that does.
tinyDashboardKeys.buttons = {
  n: ["td-next", "next feature"], p: ["td-previous", "feature before"], r: ["td-random", "any feature"],
  l: ["td-label-button", "label this feature"], s: ["td-star", "a star for the feature, or none"],
  o: ["td-go-online-button", "to the online tab"], v: ["td-view-next", "next view"], b: ["td-view-before", "view before"],
};
