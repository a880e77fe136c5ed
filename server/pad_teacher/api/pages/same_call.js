// The same call as curl, as Python, and as a link to this page with the set; the key is in none of them.
import { needsKey } from "./asking.js";
import { $, copy } from "./dom.js";
import { packed } from "./set_form.js";

const base = () => new URL(".", location.href).href.replace(/\/$/, "");
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

export function drawCode(asked, alpha) {
  const body = { ...asked, alpha };
  const auth = needsKey ? ' -H "Authorization: Bearer $KEY"' : "";
  $("curl").textContent = `curl -s ${base()}/v1/score${auth} --json ${quoted(JSON.stringify(body))}`;
  const line = JSON.stringify(JSON.stringify({ id: "0", ...asked.sets[0] }));
  $("python").textContent = [
    "import os",
    "from pad_student import Teacher",
    "from pad_wire import SampledSet",
    "",
    `teacher = Teacher(${JSON.stringify(base())}, key=os.environ.get("KEY"))`,
    `line = ${line}`,
    `print(teacher.score([SampledSet.model_validate_json(line)], alpha=${alpha}, orders=${JSON.stringify(body.orders)}))`,
  ].join("\n");
  $("link").href = `#set=${packed(asked.sets[0])}`;
}

document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", () => {
  const texts = { curl: $("curl").textContent, python: $("python").textContent, link: $("link").href };
  copy(texts[button.dataset.copy], $("copied-call"));
}));
