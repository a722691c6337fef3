// Filters the ranked lists by identity and camera of the query.
"use strict";

const pid = document.getElementById("pid"), camid = document.getElementById("camid");
const frames = document.getElementById("frames"), count = document.getElementById("count");
const lists = [...document.querySelectorAll(".list")];

function show() {
  for (const list of lists) {
    list.hidden = ![pid, camid].every(choice => !choice.value || list.dataset[choice.id] === choice.value);
  }
  count.value = `${lists.filter(list => !list.hidden).length} of ${lists.length} queries shown`;
  document.body.classList.toggle("several", frames.checked);
}

document.querySelector("form").addEventListener("change", show);
show();
