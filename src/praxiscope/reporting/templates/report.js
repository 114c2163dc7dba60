// Theme switch, sortable tables, filtered gallery. The page is complete without this script.
// Text from the run reaches the page through textContent only, never as markup.
"use strict";
(() => {
  const PAGE = 20;
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data-json").textContent);

  function startTheme() {
    const button = document.getElementById("theme");
    const label = document.getElementById("theme-label");
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
    const show = () => { label.textContent = isDark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      show();
    });
    system.addEventListener("change", show);
    button.hidden = false;
    show();
  }

  function readCell(row, column, isNumber) {
    const cell = row.cells[column];
    return isNumber ? Number(cell.dataset.value) : cell.textContent.trim();
  }

  function sortRows(table, column, isNumber, direction) {
    const body = table.tBodies[0];
    const compare = isNumber ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    const rows = Array.from(body.rows).map((row) => ({ row, key: readCell(row, column, isNumber) }));
    rows.sort((a, b) => direction * compare(a.key, b.key));
    rows.forEach((one) => body.append(one.row));
  }

  function startTable(table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const isNumber = head.dataset.kind === "num";
        // Numbers start with the smallest: the weak classes are what one looks for.
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sortRows(table, column, isNumber, ascending ? 1 : -1);
      });
    });
  }

  function fillSelect(select, key) {
    const counts = new Map();
    data.failures.forEach((one) => counts.set(one[key], (counts.get(one[key]) || 0) + 1));
    data.names.forEach((name, index) => {
      const option = document.createElement("option");
      option.value = String(index);
      option.textContent = `${name} (${counts.get(index) || 0})`;
      select.append(option);
    });
  }

  function startGallery() {
    const gallery = document.getElementById("gallery");
    if (!gallery) return;
    const form = document.getElementById("filters");
    const target = document.getElementById("filter-target");
    const preds = document.getElementById("filter-preds");
    const order = document.getElementById("order");
    const shown = document.getElementById("shown");
    const more = document.getElementById("more");
    let room = PAGE;
    const items = Array.from(gallery.children).map((element, index) => ({ element, ...data.failures[index] }));

    function apply() {
      const fits = (one) => (target.value === "" || Number(target.value) === one.target)
        && (preds.value === "" || Number(preds.value) === one.preds);
      const ordered = order.value === "low" ? items.slice().reverse() : items;
      const found = ordered.filter(fits);
      const visible = new Set(found.slice(0, room));
      ordered.forEach((one) => {
        one.element.hidden = !visible.has(one);
        gallery.append(one.element);
      });
      const rest = found.length - visible.size;
      shown.textContent = `${visible.size} of ${found.length} shown`;
      more.textContent = `Show ${Math.min(rest, PAGE)} more`;
      more.hidden = rest === 0;
    }

    function restart() {
      room = PAGE;
      apply();
    }

    function choose(element) {
      target.value = element.dataset.target;
      preds.value = element.dataset.preds;
      restart();
      document.getElementById("failures").scrollIntoView();
    }

    fillSelect(target, "target");
    fillSelect(preds, "preds");
    [target, preds, order].forEach((select) => select.addEventListener("change", restart));
    // The fields have their first values only after the event.
    form.addEventListener("reset", () => window.setTimeout(restart));
    more.addEventListener("click", () => {
      room += PAGE;
      apply();
    });
    document.querySelectorAll("[data-target][data-preds]").forEach((element) => {
      element.addEventListener("click", () => choose(element));
    });
    form.hidden = false;
    restart();
  }

  startTheme();
  document.querySelectorAll("table.sortable").forEach(startTable);
  startGallery();
})();
