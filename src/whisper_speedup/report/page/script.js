"use strict";
// Sorting and searching. Everything that this page says is there without it.
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const fold = (text) => text.normalize("NFKC").toLowerCase();

  // "1,234", "0 of 13", "2.87×" and "−0.5" as numbers; a dash, and any other text, as nothing.
  const number = (text) => {
    const found = /^[^\d−-]{0,2}([−-]?[\d,]*\.?\d+)/u.exec(text.trim());
    return found ? Number(found[1].replaceAll(",", "").replace("−", "-")) : NaN;
  };

  const sorters = new Map();
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        // Up, down, and back to the order of the page.
        const next = before === "ascending" ? "descending" : before === "descending" ? null : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        body.append(...(next ? sorted(original, column, head.dataset.sort, next) : original));
      });
    });
    sorters.set(table, original);
  }

  function sorted(rows, column, kind, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => {
      const text = row.cells[column].textContent;
      return [kind === "number" ? number(text) : fold(text), row];
    });
    keyed.sort(([a], [b]) => {
      if (kind !== "number") return a < b ? -sign : a > b ? sign : 0;
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // unknown is always last
      return sign * (a - b);
    });
    return keyed.map(([, row]) => row);
  }

  // Show what holds every word of the search, and is of the kinds chosen. `things` are [element, text, kinds].
  function filter(search, choices, things, count, one, many) {
    const words = fold(search.value).split(/\s+/u).filter(Boolean);
    let shown = 0;
    for (const [element, text, matches] of things) {
      const show = words.every((word) => text.includes(word)) && choices.every((choice) => matches(choice));
      element.hidden = !show;
      shown += show;
    }
    count.textContent = `${shown.toLocaleString("en")} of ${things.length.toLocaleString("en")} ${things.length === 1 ? one : many}`;
  }

  function tools(name, things, search, selects, count, one, many) {
    const box = document.querySelector(`.tools[data-for="${name}"]`);
    if (!box || things.length < 2) return () => {};
    box.hidden = false;
    let waiting = 0;
    const apply = () => filter(search, selects, things, count, one, many);
    const soon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(apply); };
    for (const control of [search, ...selects]) control.addEventListener("input", soon);
    apply();
    return () => { for (const control of [search, ...selects]) control.value = ""; apply(); };
  }

  const byId = (id) => document.getElementById(id);
  const cards = all("article.card").map((card) => [card, fold(card.textContent), (select) => !select.value
    || (select.id === "card-engine" ? card.dataset.engine : card.dataset.kind) === select.value]);
  const resetCards = tools("cards", cards, byId("card-search"), [byId("card-kind"), byId("card-engine")].filter(Boolean),
    byId("card-count"), "difference", "differences");

  const table = document.querySelector("table.utterances");
  const rows = [...table.tBodies[0].rows].map((row) => [row, fold(row.textContent), (select) => !select.value
    || (row.dataset.kind ?? "").includes(select.value)]);
  const resetRows = tools("utterances", rows, byId("row-search"), [byId("row-kind")], byId("row-count"), "utterance", "utterances");

  // A link to something that a search has hidden shows everything again.
  addEventListener("hashchange", reveal);
  reveal();
  function reveal() {
    const target = location.hash.length > 1 ? byId(decodeURIComponent(location.hash.slice(1))) : null;
    if (!target?.closest("[hidden]")) return;
    (target.closest("#cards") ? resetCards : resetRows)();
    target.scrollIntoView();
  }
})();
