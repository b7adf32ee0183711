import type { Command } from 'commander';
import { addArchive, addArchives } from './event-archive-commands';
import { addExport } from './event-export';
import { addImport } from './event-import';
import { addPartition } from './event-partition';
import { addRepublish } from './event-republish';

/** Adds `sendmux events …`. */
export function addEventCommands(events: Command): void {
  addRepublish(events);
  addExport(events);
  addImport(events);
  addPartition(events);
  addArchive(events);
  addArchives(events);
}
