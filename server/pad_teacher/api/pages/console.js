// The console: the state of the service live, and one response set looked at from all sides.
import { begin } from "./asking.js";
import { $ } from "./dom.js";
import { watch } from "./now.js";
import { alphaOf, beginSliders, drawRewards } from "./reward_sliders.js";
import { drawCode } from "./same_call.js";
import { drawMatrix, drawResponses } from "./scored_set.js";
import { beginSet } from "./set_form.js";

let scored = null; // the set that was sent, and the reply's only set

beginSliders(() => drawCode(scored.asked, alphaOf()));
beginSet((found) => {
  scored = found;
  $("result").hidden = false;
  drawResponses(found);
  drawMatrix(found.set);
  drawRewards(found.set);
});
begin(watch);
