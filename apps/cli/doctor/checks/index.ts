import type { Check } from '../check';
import { clock } from './clock';
import { databaseChecks } from './database';
import { kafka } from './kafka';
import { keys } from './keys';
import { lag } from './lag';
import { resolvers } from './resolvers';
import { ses } from './ses';
import { settings } from './settings';
import { smtp } from './smtp';

/** All checks, in the order in which they are shown. A further one is an object in a file beside, and a line here. */
export const checks: readonly Check[] = [
  settings,
  clock,
  ...databaseChecks,
  resolvers(),
  ses(),
  smtp,
  kafka,
  keys,
  lag,
];
