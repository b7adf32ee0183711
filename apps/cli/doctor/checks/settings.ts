import { loadSettings, secretSettings, settingNames, SettingsInvalid } from '@app/runtime';
import { check, failed, ok } from '../check';

/** Looks whether all settings can be used, as each app does at its start. */
export const settings = check({
  name: 'settings',
  needs: [],
  withinMs: 5_000,
  remedy: 'Run it again, with the environment of the apps.',
  // eslint-disable-next-line @typescript-eslint/require-await -- a check is a promise; this one knows at once
  run: async ({ env }) => {
    try {
      loadSettings(env);
    } catch (error) {
      if (!(error instanceof SettingsInvalid)) throw error;
      // The first line says what the others are.
      const [, ...faults] = error.message.split('\n');
      return faults.map((fault) => failed(`${fault.trim()}. docs/settings.md explains it.`));
    }
    const files = secretSettings.filter((name) => env[`${name}_FILE`]).length;
    const given = settingNames.filter((name) => env[name] || env[`${name}_FILE`]).length;
    return [
      ok(`${given} of ${settingNames.length} are set in the environment, ${files} of them by a file; all can be used.`),
    ];
  },
});
