// Required before an app: writes the files that it has loaded when it is told to stop.
const { writeFileSync } = require('node:fs');

process.once('SIGTERM', () => {
  writeFileSync(process.env.LOADED_MODULES_FILE, Object.keys(require.cache).join('\n'));
});
