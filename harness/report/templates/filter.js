"use strict";
// The form is hidden without scripts, and then everything is shown.
const form = document.querySelector("form.filter");
const box = form.querySelector("input");
const items = [...document.querySelectorAll("[data-text]")];
const groups = [...document.querySelectorAll("[data-group]")];
const filter = () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
  let shown = 0;
  for (const item of items) {
    const has = (select) => item.dataset[select.name].split("|").includes(select.value);
    item.hidden = !words.every((word) => item.dataset.text.includes(word)) || !chosen.every(has);
    shown += !item.hidden;
  }
  for (const group of groups) group.hidden = !group.querySelector("[data-text]:not([hidden])");
  const all = `${items.length} ${form.dataset.noun}`;
  form.querySelector("output").textContent = words.length || chosen.length ? `${shown} of ${all}` : all;
  document.getElementById("no-match").hidden = shown > 0;
};
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
// Also now: a reloaded page keeps its text.
filter();
