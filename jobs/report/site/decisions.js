/* What a reviewer decides, kept in this browser, and exported as a manifest. */
"use strict";

(() => {
  const { store } = review;
  const KINDS = { a: "accept", r: "redo", x: "reject" };
  const kept = new Map(); // key of a row -> a, r or x
  const decisions = { KINDS, isKept: true };
  review.decisions = decisions;

  const place = () => `catalog-cleanup review of ${store.page.output}`;

  decisions.load = () => {
    if (!store.page.cleans) delete KINDS.r; // there is no result to make again
    try {
      const found = JSON.parse(localStorage.getItem(place()) ?? "{}");
      for (const [key, decision] of Object.entries(found)) if (decision in KINDS) kept.set(key, decision);
    } catch {
      decisions.isKept = false; // a browser that keeps nothing, or what another page left
    }
  };

  function save() {
    try {
      localStorage.setItem(place(), JSON.stringify(Object.fromEntries(kept)));
      decisions.isKept = true;
    } catch {
      decisions.isKept = false;
    }
  }

  decisions.of = (row) => kept.get(store.key(row));

  /* Decide on a row, or take the same decision back; returns whether there is one now. */
  decisions.set = (row, decision) => {
    const key = store.key(row);
    const isNew = kept.get(key) !== decision;
    kept.delete(key); // the latest decision is the last
    if (isNew) kept.set(key, decision);
    save();
    return isNew;
  };

  decisions.clear = () => {
    kept.clear();
    save();
  };

  /* How many listed rows have each decision. */
  decisions.counts = () => {
    const counts = { a: 0, r: 0, x: 0 };
    for (let row = 0; kept.size && row < store.count; row++) {
      const decision = decisions.of(row);
      if (decision) counts[decision] += 1;
    }
    return counts;
  };

  /* The manifest of all rows with these decisions, as JSON Lines. An id is there once, though it may be
  decided on for several recipes: its latest decision counts. */
  decisions.manifest = async (wanted) => {
    const order = new Map([...kept.keys()].map((key, number) => [key, number]));
    const latest = new Map(); // id -> row
    for (let row = 0; row < store.count; row++) {
      if (!decisions.of(row)) continue;
      const id = store.columns.id[row];
      const rival = latest.get(id);
      if (rival === undefined || order.get(store.key(rival)) < order.get(store.key(row))) {
        latest.set(id, row);
      }
    }
    const lines = [];
    for (const row of latest.values()) {
      const decision = decisions.of(row);
      if (!wanted.includes(decision)) continue;
      const { line } = await store.detail(row);
      lines.push(`${line.slice(0, -1)}, ${JSON.stringify(store.page.review)}: "${KINDS[decision]}"}\n`);
    }
    return lines;
  };

  /* Let the browser download the manifest; returns how many rows it has. */
  decisions.download = async (wanted, name) => {
    const lines = await decisions.manifest(wanted);
    if (lines.length) decisions.save(lines, name);
    return lines.length;
  };

  /* Let the browser download lines as a file. */
  decisions.save = (lines, name) => {
    const address = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
    review.element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  };
})();
