// Processes that the tests start. They end with the test process however it ends: at its exit they are killed, and if it is killed itself, with -9
// for one, the kernel does it (setpriv asks for that, then becomes the command).
import { spawn } from "node:child_process";

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

export function start(command, args, options) {
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", command, ...args], options);
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

// Runs a command to its end, within a time, and returns what it printed.
export function run(command, args, milliseconds) {
  return new Promise((resolve, reject) => {
    const child = start(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    const said = [command, ...args].join(" ");
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${said} did not end within ${milliseconds} ms:\n${stdout}${stderr}`));
    }, milliseconds);
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(stdout);
      else reject(new Error(`${said} ended with ${signal ?? code}:\n${stdout}${stderr}`));
    });
  });
}
