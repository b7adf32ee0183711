/**
 * Is preloaded. The clock of the process is ahead of the machine's by the milliseconds in the file `CLOCK_AHEAD_FILE`,
 * which can change at any time.
 */
const { readFileSync } = require('node:fs');

const machine = Date.now;
Date.now = () => machine() + Number(readFileSync(process.env.CLOCK_AHEAD_FILE, 'utf8'));
