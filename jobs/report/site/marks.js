/* What a reviewer marks, kept in this browser, and exported as a manifest. */
"use strict";

(() => {
  const { store } = review;
  const KINDS = { a: "accept", r: "redo", x: "reject" };
  const kept = new Map(); // key of a row -> a, r or x
  const marks = { KINDS, isKept: true };
  review.marks = marks;

  const place = () => `catalog-cleanup review of ${store.page.output}`;

  marks.load = () => {
    if (!store.page.cleans) delete KINDS.r; // there is no result to make again
    try {
      const found = JSON.parse(localStorage.getItem(place()) ?? "{}");
      for (const [key, mark] of Object.entries(found)) if (mark in KINDS) kept.set(key, mark);
    } catch {
      marks.isKept = false; // a browser that keeps nothing, or what another page left
    }
  };

  function save() {
    try {
      localStorage.setItem(place(), JSON.stringify(Object.fromEntries(kept)));
      marks.isKept = true;
    } catch {
      marks.isKept = false;
    }
  }

  marks.of = (row) => kept.get(store.key(row));

  /* Mark a row, or take the same mark back; returns whether it is marked now. */
  marks.set = (row, mark) => {
    const key = store.key(row);
    const isNew = kept.get(key) !== mark;
    kept.delete(key); // the latest mark is the last
    if (isNew) kept.set(key, mark);
    save();
    return isNew;
  };

  marks.clear = () => {
    kept.clear();
    save();
  };

  /* How many listed rows have each mark. */
  marks.counts = () => {
    const counts = { a: 0, r: 0, x: 0 };
    for (let row = 0; kept.size && row < store.count; row++) {
      const mark = marks.of(row);
      if (mark) counts[mark] += 1;
    }
    return counts;
  };

  /* The manifest of all rows with these marks, as JSON Lines. An id is there once, though it may be
  marked for several recipes: its latest mark counts. */
  marks.manifest = async (wanted) => {
    const order = new Map([...kept.keys()].map((key, number) => [key, number]));
    const latest = new Map(); // id -> row
    for (let row = 0; row < store.count; row++) {
      if (!marks.of(row)) continue;
      const id = store.columns.id[row];
      const rival = latest.get(id);
      if (rival === undefined || order.get(store.key(rival)) < order.get(store.key(row))) {
        latest.set(id, row);
      }
    }
    const lines = [];
    for (const row of latest.values()) {
      const mark = marks.of(row);
      if (!wanted.includes(mark)) continue;
      const { line } = await store.detail(row);
      lines.push(`${line.slice(0, -1)}, ${JSON.stringify(store.page.review)}: "${KINDS[mark]}"}\n`);
    }
    return lines;
  };

  /* Let the browser download the manifest; returns how many rows it has. */
  marks.download = async (wanted, name) => {
    const lines = await marks.manifest(wanted);
    if (lines.length) marks.save(lines, name);
    return lines.length;
  };

  /* Let the browser download lines as a file. */
  marks.save = (lines, name) => {
    const address = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
    review.element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  };
})();
