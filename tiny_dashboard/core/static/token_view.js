/* A place for fragments in the app (`token_view` in app/components.py): the value is data, never a template; the page is
   built from it here, once and again after each change. `tell` has a function for each of its events. */
function tinyTokenView(element, props, watch, tell) {
  const mount = element.querySelector(".td-mount");
  const view = () => window.tinyAddressPut?.({ as: window.tinyView === "lines" ? "" : window.tinyView });
  const refresh = tinyDashboard(mount, (kind, detail) => ({ view, ...tell })[kind](detail));
  // Long lists come in over several frames, so that the page never stalls; a newer value ends an older one's turn.
  const CHUNK = 60000;
  let turn = 0;
  const build = () => {
    const held = mount.contains(document.activeElement) && document.activeElement.dataset;
    const parts = (props.value || "").split("<!---->"), tail = parts.length > 2 ? parts.pop() : "", mine = ++turn;
    const take = () => { let html = ""; while (parts.length && html.length < CHUNK) html += parts.shift(); return html; };
    mount.innerHTML = parts.shift() + take() + tail;
    refresh();
    if (held?.action) {
      const same = [...mount.querySelectorAll("[data-action]")].filter((node) => node.dataset.action === held.action);
      (same.find((node) => node.dataset.value === held.value) ?? same[0])?.focus();
    }
    const more = () => {
      if (mine !== turn || !parts.length) return;
      mount.querySelector(".td-list").insertAdjacentHTML("beforeend", take());
      refresh();
      requestAnimationFrame(more);
    };
    requestAnimationFrame(more);
  };
  build();
  watch("value", build);
}
