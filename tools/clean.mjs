// The compiler emits nothing for files it believes unchanged, so a build starts from an empty folder.
import { rmSync } from 'node:fs';

rmSync('dist', { recursive: true, force: true });
