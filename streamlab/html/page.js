"use strict";
// Turn table headers into buttons that sort. The page is complete without this script.
const words = new Intl.Collator("en", { numeric: true });

function key(row, column) {
  const cell = row.cells[column];
  const number = cell.querySelector("data");
  if (number) return Number(number.value);
  return cell.classList.contains("none") ? null : cell.textContent.trim();
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return words.compare(String(one), String(other));
}

// Empty cells come last in either direction; equal rows keep their order.
function sort(table, header, column) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const keyed = Array.from(table.tBodies[0].rows, (row) => [key(row, column), row]);
  keyed.sort(([one], [other]) => {
    if (one === null || other === null) return (one === null) - (other === null);
    return descending ? compare(other, one) : compare(one, other);
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

function prepare(part) {
  for (const table of part.querySelectorAll("table[data-sortable]")) {
    Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header, column));
      header.append(button);
    });
    const hint = document.createElement("span");
    hint.className = "hint";
    hint.textContent = " – choose a header to sort";
    table.caption.querySelector(".title").append(hint);
  }
}

prepare(document);
