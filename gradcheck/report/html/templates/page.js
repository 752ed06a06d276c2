"use strict";
(() => {
  const bar = document.querySelector(".filter");
  const buttons = [...bar.querySelectorAll("button")];
  const box = bar.querySelector("input");
  const rows = [...document.querySelectorAll("[data-outcome]")];
  const counted = document.querySelector("tr[data-outcome]") ? "TR" : "DETAILS"; // of very many cases not each has a section
  const said = bar.querySelector("[role=status]");
  let wanted = "all";
  const show = () => {
    const words = box.value.toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (wanted === "all" || row.dataset.outcome === wanted) && row.dataset.name.toLowerCase().includes(words);
      row.hidden = !fits;
      count += fits && row.tagName === counted ? 1 : 0;
    }
    said.textContent = `${count} shown`;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      wanted = button.dataset.wanted;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      show();
    });
  }
  box.addEventListener("input", show);
  const open = () => {
    const found = location.hash && document.getElementById(location.hash.slice(1));
    if (found && found.tagName === "DETAILS") found.open = true;
  };
  addEventListener("hashchange", open);
  open();
  bar.style.display = "flex";
})();
