import { readFile } from 'node:fs/promises';
import { extname, join, resolve } from 'node:path';
import { Controller, Get, Header, NotFoundException, Param, StreamableFile } from '@nestjs/common';

/** The built pages: beside the compiled apps. */
const built = resolve(__dirname, '../../web');
const mediaTypes: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The page runs its own files alone, and shows a mail in a frame that may run nothing. */
export const pagePolicy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** @throws {NotFoundException} where the pages were not built, as in a test of the sources. */
export async function sandboxPage(): Promise<string> {
  return (await file('sandbox.html')).toString();
}

/** Serves what the page of the sandbox loads. */
@Controller('assets')
export class AssetsController {
  /** A file is named after its content, so that it never changes. */
  @Get(':name')
  @Header('cache-control', 'public, max-age=31536000, immutable')
  async asset(@Param('name') name: string): Promise<StreamableFile> {
    const type = /^[\w.-]+$/.test(name) ? mediaTypes[extname(name)] : undefined;
    if (!type) throw new NotFoundException(`There is no file ${name}.`);
    return new StreamableFile(await file(join('assets', name)), { type });
  }
}

async function file(path: string): Promise<Buffer> {
  try {
    return await readFile(join(built, path));
  } catch {
    throw new NotFoundException(`There is no file ${path}: npm run build makes the pages.`);
  }
}
