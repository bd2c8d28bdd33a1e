/* The menu "Save" of the app's tabs (app/saving.py): files are made and given to the person here.

   tinyDashboardSaving(place) attaches it once, and gives
     tinySave(id, made): of the menu with this id, what the server made: JSON, {name, kind, text} or {error};
     tinySavePage(shell, told, name, parts): the fragments that are shown as a page of their own, whose frame is `shell`;
       `told` is `Seen.said` of a text, or null for the examples of feature `name`. The server keeps nothing of it. */
function tinyDashboardSaving(place) {
  if (window.tinySave) return;
  const SCALE = 3; // pixels of a PNG for each point
  const plain = (text) => new Option(text).innerHTML;
  const give = (name, content, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content].flat(), { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const drawn = async (svg) => {
    const image = new Image(), bytes = new TextEncoder().encode(svg);
    image.src = "data:image/svg+xml;base64," + btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    await image.decode();
    const [, width, height] = /width="([\d.]+)pt" height="([\d.]+)pt"/.exec(svg), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width * SCALE, height * SCALE];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done));
    if (!blob) throw new Error("too large a picture for this browser; save it as SVG");
    return blob;
  };
  const kept = async (text) => { // no permission, or not a secure page: the caller has another way
    try { await navigator.clipboard.writeText(text); return true; } catch { return false; }
  };
  const ways = {
    svg: (name, text) => give(`${name}.svg`, text, "image/svg+xml"),
    latex: (name, text) => give(`${name}.tex`, text, "text/x-tex"),
    png: async (name, text) => give(`${name}.png`, await drawn(text)),
    code: async (name, text) => {
      if (await kept(text)) return "copied";
      give(`${name}.py`, text, "text/x-python");
      return "this page may not copy: saved as a file";
    },
  };
  const say = (said, text, lasting) => { // below the menu's button, on top of all: nothing on the page moves
    said.showPopover();
    said.textContent = text;
    if (!lasting) setTimeout(() => said.hidePopover(), 1500);
  };
  window.tinySave = async (id, made) => {
    const said = document.getElementById(id)?.querySelector("[role=status]"), { name, kind, text, error } = JSON.parse(made);
    try {
      if (error) throw new Error(error);
      const done = await ways[kind](name, text);
      if (done) say(said, done);
    } catch (wrong) { say(said, wrong.message || "the picture cannot be drawn", true); }
  };
  window.tinySavePage = ([before, after], told, name, parts) => {
    const said = told === null ? null : JSON.parse(told || "{}"), about = document.querySelector(".td-head p")?.textContent.trim();
    const { text, answer, unsteered, ...how } = said?.link ?? {};
    const set = Object.entries(how).map(([key, value]) => `${key.replace("_", " ")} ${value}`);
    const heads = [...document.querySelectorAll(".td-head > h1, .td-head > p")].map((node) => node.textContent.trim());
    const title = plain(said ? said.title : `feature ${name}`), facts = plain((said ? [about, ...set].filter(Boolean) : heads).join(" · "));
    const [mark, look] = said ? ["h3", "td"] : ["h1", "td td-head"];
    const stem = `${said ? "text" : "feature"}-${String(said ? said.features : name).replace(/[^0-9]+/g, "-") || "view"}`;
    const titled = before.replace("<title></title>", () => `<title>${title}</title>`);
    give(`${stem}.html`, [titled, `<div class="${look}"><${mark}>${title}</${mark}><p>${facts}</p></div>`, ...parts, after], "text/html");
  };
  place.addEventListener("click", (event) => {
    const { press } = event.target.dataset ?? {};
    if (press) document.getElementById(press)?.click();
    if (event.target.closest?.(".td-menu button")) event.target.closest(".td-menu").hidePopover();
  });
  place.addEventListener("beforetoggle", (event) => {
    if (!event.target.matches?.(".td-menu")) return;
    const box = event.target.parentNode.getBoundingClientRect(), style = event.target.style;
    style.setProperty("--td-x", `${box.left + scrollX}px`);
    style.setProperty("--td-y", `${box.bottom + scrollY}px`);
  }, true);
}
