/** Reads what processes have used from `/proc`, and finds those of the apps that this process has started. */
import { readdirSync, readFileSync } from 'node:fs';

export interface AppProcess {
  readonly app: string;
  readonly pid: number;
}

/** Milliseconds of the kernel's unit of CPU time, `USER_HZ`. */
const tickMs = 10;

/** Gives the fields of `/proc/<pid>/stat` from the state on (proc_pid_stat(5)); none when the process has ended. */
function statOf(pid: number): readonly string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

const childrenOf = (parent: number): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && statOf(Number(name))[1] === String(parent))
    .map(Number);

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
/** The fields are utime, stime, cutime and cstime. */
const cpuOf = (pid: number, fields: 2 | 4): number =>
  sum(
    statOf(pid)
      .slice(11, 11 + fields)
      .map(Number),
  ) * tickMs;

/** Lists the running apps, which are children of this process. */
export const processesOfApps = (): AppProcess[] =>
  childrenOf(process.pid).flatMap((pid) => {
    const app = /apps\/([a-z-]+)\/main\.js/.exec(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.[1];
    return app ? [{ app, pid }] : [];
  });

/** Gives the CPU time that a process has used, in milliseconds. */
export const cpuMs = (pid: number): number => cpuOf(pid, 2);

/** Gives the CPU time of a server and all of its processes, also of those that have ended, in milliseconds. */
export const cpuMsOfServer = (pid: number): number =>
  cpuOf(pid, 4) + sum(childrenOf(pid).map((child) => cpuOf(child, 2)));

/** A process, with its command line. */
export interface RunningProcess {
  readonly pid: number;
  readonly command: string;
}

/** Reads a file about a process; empty when the process has ended. */
function aboutProcess(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/** Lists a process and all that it has started, directly or not. */
export const processTree = (pid: number): RunningProcess[] => [
  { pid, command: aboutProcess(pid, 'cmdline').replaceAll('\0', ' ') },
  ...childrenOf(pid).flatMap(processTree),
];

/** Gives the CPU time of a process and of those that it has started and that have ended, in milliseconds. */
export const cpuMsWithEnded = (pid: number): number => cpuOf(pid, 4);

/** Gives a field of `/proc/<pid>/status` that is in kibibytes, in MiB. */
const mibOf = (pid: number | 'self', field: string): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024;

/** Gives the resident memory of a process in MiB. */
export const residentMiB = (pid: number): number => mibOf(pid, 'VmRSS');

/**
 * Gives the proportional memory of a process in MiB: of pages that several processes share, its part
 * (proc_pid_smaps(5)). The sum over processes is what they take together.
 */
export const proportionalMiB = (pid: number): number =>
  Number(/^Pss:\s+(\d+)/m.exec(aboutProcess(pid, 'smaps_rollup'))?.[1] ?? 0) / 1_024;

/**
 * Gives the largest resident memory that this process has had, in MiB. `getrusage(2)` does not tell: it begins with
 * that of the parent.
 */
export const peakMiB = (): number => mibOf('self', 'VmHWM');
