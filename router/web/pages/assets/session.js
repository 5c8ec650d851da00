// Ends the session that a key was exchanged for.
import { call } from "./shared.js";

document.getElementById("log-out").addEventListener("click", async () => {
  try {
    await call("POST", "/jobs/logout");
  } finally {
    window.location.assign("/jobs/login");
  }
});
