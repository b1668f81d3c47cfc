/* The list of photos: of any number of rows, only those in sight are in the document. */
"use strict";

(() => {
  const { store, decisions, element } = review;
  const HEIGHT = 76; // px of a row, as in page.css
  const AHEAD = 6; // rows beyond the edges
  const box = document.getElementById("list");
  const inner = document.getElementById("rows");
  const list = { rows: [], at: -1, choose: () => {} };
  review.list = list;

  /* Show these rows, and keep the chosen one if it is among them. */
  list.show = (rows) => {
    const chosen = list.rows[list.at];
    list.rows = rows;
    list.at = rows.length ? Math.max(rows.indexOf(chosen), 0) : -1;
    inner.style.height = `${rows.length * HEIGHT}px`;
    reveal();
    list.draw();
    list.choose(rows[list.at]);
  };

  /* Go a number of rows on, or back. */
  list.move = (by) => list.go(Math.min(Math.max(list.at + by, 0), list.rows.length - 1));

  list.go = (at) => {
    if (at === list.at || at < 0) return;
    list.at = at;
    reveal();
    list.draw();
    list.choose(list.rows[at]);
  };

  function reveal() {
    const [top, bottom] = [list.at * HEIGHT, (list.at + 1) * HEIGHT];
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  }

  /* Put the rows in sight into the document. */
  list.draw = () => {
    const first = Math.max(Math.floor(box.scrollTop / HEIGHT) - AHEAD, 0);
    const last = Math.min(Math.ceil((box.scrollTop + box.clientHeight) / HEIGHT) + AHEAD, list.rows.length);
    const options = [];
    for (let at = first; at < last; at++) options.push(option(at));
    inner.replaceChildren(...options);
    const isInSight = list.at >= first && list.at < last;
    if (isInSight) box.setAttribute("aria-activedescendant", `row-${list.at}`);
    else box.removeAttribute("aria-activedescendant");
  };

  function option(at) {
    const row = list.rows[at];
    const { page, columns } = store;
    const decision = decisions.of(row);
    const text = element("div", { class: "row-text" },
      element("div", { class: "row-id" }, columns.id[row]), element("div", { class: "row-facts" }, ...facts(row)));
    const picture = columns.picture[row]
      ? element("img", { src: `pictures/${columns.picture[row]}/icon.webp?${page.stamp}`, alt: "", decoding: "async" })
      : element("span", { class: "no-icon" });
    const made = element("div", {
      id: `row-${at}`, class: "row-option", role: "option",
      "aria-selected": String(at === list.at), "aria-setsize": list.rows.length, "aria-posinset": at + 1,
    }, picture, text);
    if (decision) made.append(element("span", { class: `decision decision-${decision}` }, decisions.KINDS[decision]));
    made.style.top = `${at * HEIGHT}px`;
    made.addEventListener("click", () => list.go(at));
    return made;
  }

  function facts(row) {
    const { page, columns } = store;
    const said = [];
    for (const second of page.compared ? ["", "2"] : [""]) {
      const [status, flag] = [store.said(`status${second}`, row), store.said(`flag${second}`, row)];
      if (status && status !== "ok") {
        said.push(element("span", { class: "bad" }, store.said(`error_code${second}`, row) || status));
      }
      if (flag) said.push(element("span", { class: "flag" }, flag.replaceAll("_", " ")));
      if (!second && columns.found[row] !== null) said.push(element("span", {}, foundIn(row)));
      const score = columns[`score${second}`][row];
      if (score !== null) said.push(element("span", {}, `score ${score.toFixed(2)}`));
    }
    if (!page.compared && page.recipes.length > 1) said.push(element("span", {}, page.recipes[columns.recipe[row]].label));
    const seconds = columns.seconds[row];
    if (!said.length && seconds !== null) said.push(element("span", {}, `${seconds.toFixed(1)} s`));
    return said;
  }

  function foundIn(row) {
    const [removed, found] = [store.columns.removed[row], store.columns.found[row]];
    if (review.found.isEdited(row)) return `${found} found, edited`;
    return found ? `${removed} of ${found} removed` : "nothing found";
  }

  let isDue = false;
  function later() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; list.draw(); });
  }
  box.addEventListener("scroll", later, { passive: true });
  new ResizeObserver(later).observe(box);
})();
