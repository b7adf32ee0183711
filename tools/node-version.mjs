// Said before anything is installed: what an old Node says by itself tells nobody what to do.
import { readFileSync } from 'node:fs';

const { engines } = JSON.parse(readFileSync('package.json', 'utf8'));
const wanted = engines.node.replace('>=', '').split('.').map(Number);
const found = process.versions.node.split('.').map(Number);
const differs = wanted.findIndex((part, index) => part !== found[index]);
if (differs >= 0 && found[differs] < wanted[differs]) {
  console.error(`Node ${engines.node} is needed; this is ${process.versions.node}.`);
  process.exit(1);
}
