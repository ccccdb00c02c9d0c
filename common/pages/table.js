"use strict";
// Sorts a table by the column whose heading is clicked; a second click turns the order round.

(() => {
  const collator = new Intl.Collator(undefined, { numeric: true });
  const comparisons = {
    number: (a, b) => Number(a) - Number(b),
    words: (a, b) => collator.compare(a, b),
  };

  const sort = (table, heading) => {
    const first = heading.dataset.first;
    const second = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const compare = comparisons[heading.dataset.kind];
    const key = (row) => row.cells[heading.cellIndex].dataset.order;
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => sign * compare(key(a), key(b))));
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
  };

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("th[data-first]").forEach((heading) => {
      heading.querySelector("button").addEventListener("click", () => sort(table, heading));
    });
  });
})();
