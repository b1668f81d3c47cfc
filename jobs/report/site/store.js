/* What the page is about: its rows, as columns, and how they are filtered and sorted.

The files in data/ are scripts that call review.begin, review.rows and review.details, since a page
that is opened from disk may load no other files. */
"use strict";

const review = {};

(() => {
  const parts = [];
  const detailFiles = new Map();
  const store = { page: null, columns: {}, count: 0 };
  review.store = store;

  /* data/page.js: what the page is about. */
  review.begin = async (page) => {
    store.page = page;
    store.count = page.count;
    const numbers = Array.from({ length: page.files }, (_, number) => number);
    await Promise.all(numbers.map((number) => load("rows", number)));
    for (const part of parts) {
      for (const [name, values] of Object.entries(part)) {
        store.columns[name] = (store.columns[name] ?? []).concat(values);
      }
    }
    parts.length = 0;
    review.start();
  };

  /* data/rows-NNNN.js: the list's next rows. */
  review.rows = (number, columns) => {
    parts[number] = columns;
  };

  /* data/details-NNNN.js: the details of some rows. */
  review.details = (number, rows) => {
    detailFiles.set(number, rows);
  };

  /* A promise of the details of a row. Few files are kept, since there may be many. */
  store.detail = async (row) => {
    const number = Math.floor(row / store.page.detailsPerFile);
    if (!detailFiles.has(number)) {
      await load("details", number);
      for (const old of detailFiles.keys()) {
        if (detailFiles.size > 8 && old !== number) detailFiles.delete(old);
      }
    }
    return detailFiles.get(number)[row % store.page.detailsPerFile];
  };

  function load(kind, number) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${kind}-${String(number).padStart(4, "0")}.js?${store.page.stamp}`;
      script.onload = () => { script.remove(); resolve(); };
      script.onerror = () => { script.remove(); reject(new Error(`${script.src} is missing`)); };
      document.head.append(script);
    });
  }

  /* The name of a row in which decisions are kept: one for each id and recipe. */
  store.key = (row) => {
    const { id, recipe } = store.columns;
    return `${store.page.recipes[recipe[row]].label}/${id[row]}`;
  };

  /* What a column says of a row, "" for nothing. */
  store.said = (column, row) => store.columns[column]?.[row] ?? "";

  /* The manifest's own columns of a row, as [name, text], those that say something. */
  store.own = (row) => store.page.columns
    .map((column, number) => [column.name, store.said(`column${number}`, row)])
    .filter(([, text]) => text !== "");

  /* The rows that meet all criteria. Of rows that stand side by side, either may meet one. */
  store.filtered = (criteria, decisionOf) => {
    const { page, columns } = store;
    const tests = [];
    for (const name of ["status", "error_code", "flag"]) {
      if (criteria[name]) tests.push(chosen(name, criteria[name]));
    }
    if (criteria.found) tests.push(FOUND[criteria.found]);
    if (criteria.recipe) tests.push((row) => columns.recipe[row] === Number(criteria.recipe));
    if (criteria.decision) {
      const wanted = criteria.decision === "none" ? undefined : criteria.decision;
      tests.push((row) => decisionOf(row) === wanted);
    }
    if (criteria.pictured) tests.push((row) => columns.picture[row] !== "");
    for (const name of ["score", "seconds"]) tests.push(...between(name, criteria));
    page.columns.forEach((column, number) => {
      const wanted = criteria[`column${number}`];
      if (wanted) tests.push(says(number, column.values, wanted));
    });
    if (criteria.text) tests.push(mentions(criteria.text.toLowerCase()));
    const found = [];
    for (let row = 0; row < store.count; row++) {
      if (tests.every((test) => test(row))) found.push(row);
    }
    return found;
  };

  const FOUND = {
    removed: (row) => store.columns.removed[row] > 0,
    kept: (row) => store.columns.removed[row] === 0 && store.columns.found[row] > 0,
    nothing: (row) => store.columns.found[row] === 0,
  };

  function chosen(name, value) {
    const [first, second] = [store.columns[name], store.columns[`${name}2`]];
    return (row) => first[row] === value || second?.[row] === value;
  }

  function* between(name, criteria) {
    const values = store.columns[name];
    for (const [end, fits] of [["From", (a, b) => a >= b], ["To", (a, b) => a <= b]]) {
      const limit = criteria[name + end];
      if (limit) yield (row) => values[row] !== null && fits(values[row], Number(limit));
    }
  }

  function says(number, choices, wanted) {
    const values = store.columns[`column${number}`];
    if (choices) return (row) => values[row] === wanted;
    const text = wanted.toLowerCase();
    return (row) => values[row].toLowerCase().includes(text);
  }

  function mentions(text) {
    const names = ["id", ...store.page.columns.map((_, number) => `column${number}`)];
    return (row) => names.some((name) => store.columns[name][row].toLowerCase().includes(text));
  }

  /* Sort rows, which are in the order of their ids, by what "name" or "-name" (descending) says.
  Those without a value come last. */
  store.sorted = (rows, by) => {
    const [name, sign] = by.startsWith("-") ? [by.slice(1), -1] : [by, 1];
    if (name === "id") return sign > 0 ? rows : rows.reverse();
    const { score, score2, picture } = store.columns;
    const values = {
      pictured: (row) => (picture[row] ? 0 : 1),
      difference: (row) => (score[row] === null || score2[row] === null ? null : Math.abs(score[row] - score2[row])),
    };
    const value = values[name] ?? ((row) => store.columns[name][row]);
    return rows.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null) || one - other;
      return sign * (a - b) || one - other;
    });
  };
})();

/* An element with attributes, and with texts or elements in it. Whatever a manifest says becomes
text, never markup. */
review.element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "boolean") made.toggleAttribute(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
