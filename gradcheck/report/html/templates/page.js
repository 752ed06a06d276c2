"use strict";
(() => {
  const bar = document.querySelector(".filter");
  const buttons = [...bar.querySelectorAll("button")];
  const box = bar.querySelector("input");
  const rows = [...document.querySelectorAll("[data-outcome]")];
  const status = bar.querySelector("[role=status]");
  let wanted = "all";
  const applyFilter = () => {
    const part = box.value.toLowerCase();
    const shown = new Set(); // a case may have a section, a row among all cases, and a row of its grid
    for (const row of rows) {
      const matches = (wanted === "all" || row.dataset.outcome === wanted) && row.dataset.name.toLowerCase().includes(part);
      row.hidden = !matches;
      if (matches) shown.add(row.dataset.name);
    }
    status.textContent = `${shown.size} shown`;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      wanted = button.dataset.wanted;
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
      applyFilter();
    });
  }
  box.addEventListener("input", applyFilter);
  const openTarget = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", openTarget);
  openTarget();
  bar.style.display = "flex";
  const selectText = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  for (const box of document.querySelectorAll(".command")) {
    const text = box.querySelector("pre");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.addEventListener("click", async () => {
      let copied = true;
      try {
        await navigator.clipboard.writeText(text.textContent);
      } catch { // a page that was not loaded over HTTPS may not write to the clipboard
        selectText(text);
        copied = document.execCommand("copy");
      }
      button.textContent = copied ? "copied" : "press Ctrl+C";
      setTimeout(() => { button.textContent = "copy"; }, 2000);
    });
    box.append(button);
  }
})();
