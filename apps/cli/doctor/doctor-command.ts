import { completeEnvironment } from '@app/runtime';
import { Logger } from '@nestjs/common';
import type { Command } from 'commander';
import { examples, printJson, printLines } from '../output';
import type { Line } from './diagnose';

/** Milliseconds for which the end waits for connections of a check that has taken too long. */
const lingerMs = 500;

/** Adds `sendmux doctor`, whose checks are loaded when it is called. */
export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('looks at settings, clocks and every counterpart, and says of each whether it is as it has to be')
    .addHelpText(
      'after',
      `${examples('sendmux doctor', 'sendmux doctor --json')}

It changes nothing. Run it with the settings of the apps, where they run. Each line is
  ok        as it has to be
  warning   it works, and something should be mended
  failed    it does not work, or loses what was acknowledged
  skipped   there was nothing to look at, or something else has to be mended first
The exit status is 1 when a line has failed, and 0 otherwise.`,
    )
    .action(async (_options: object, command: Command) => {
      const [{ checks }, { diagnose }] = await Promise.all([import('./checks/index.js'), import('./diagnose.js')]);
      const { json } = command.optsWithGlobals<{ json?: boolean }>();
      // The log of what is used here goes to standard output.
      Logger.overrideLogger(false);
      // Node tells on standard error what it thinks of a library.
      process.removeAllListeners('warning');
      const runs = diagnose(checks, { ...process.env });
      // The AWS SDK reads its variables from the environment, not from our settings.
      Object.assign(process.env, completeEnvironment(process.env));
      const width = Math.max(...checks.map(({ name }) => name.length));
      const all: Line[] = [];
      for (const run of runs) {
        const lines = await run;
        all.push(...lines);
        if (!json) printLines(lines.map((line) => textOf(line, width)));
      }
      const count = all.filter(({ level }) => level === 'failed').length;
      if (json) printJson({ ok: count === 0, lines: all });
      // What a check has left open that did not end must not keep the process.
      setTimeout(() => process.exit(), lingerMs).unref();
      if (count > 0) throw new Error(`${count === 1 ? 'One line has' : `${count} lines have`} failed.`);
    });
}

const textOf = ({ level, check, of, message }: Line, width: number): string =>
  `${level.padEnd('warning'.length)}  ${check.padEnd(width)}  ${of === undefined ? message : `${of}: ${message}`}`;
