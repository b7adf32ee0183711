import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import fastifyStatic from '@fastify/static';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

/** The pages of a process, as the build has put them into a directory. */
export interface PagesOptions {
  /**
   * Holds the pages, a directory `assets` of files whose names have a hash of their content, and icons and the like.
   */
  readonly directory: string;
  /** The file of each page by its path, such as `setup.html` by `/setup`. */
  readonly pages: Readonly<Record<string, string>>;
  /** The path of the page that navigates by itself: it is the answer wherever a browser looks for a page. */
  readonly fallback?: string;
}

/** A page loads nothing but files of its own origin, is in no frame, and shares no window with another origin. */
const headersOfPage = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  // The page may be kept, and is asked for again each time: it names the files of its own build.
  'cache-control': 'no-cache',
};

/** The media types of what is beside the pages. */
const mediaTypes: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.webmanifest': 'application/manifest+json; charset=utf-8',
};

/** Paths below which there are no pages. */
const notPages = /^\/(api|assets|health|metrics)(\/|$)/;

interface StaticFile {
  readonly content: Buffer;
  readonly mediaType: string;
  readonly entityTag: string;
}

/** Serves the pages that a build has put into a directory. Where there are none, it serves nothing. */
export class Pages {
  private readonly files = new Map<string, StaticFile>();

  constructor(private readonly options: PagesOptions) {
    const { directory, pages } = options;
    const names = existsSync(directory) ? readdirSync(directory) : [];
    for (const [path, name] of Object.entries(pages))
      if (names.includes(name)) this.files.set(path, fileAt(directory, name));
    for (const name of names)
      if (extname(name) !== '.html' && extname(name) in mediaTypes) this.files.set(`/${name}`, fileAt(directory, name));
  }

  /** Whether a build has put the pages there. */
  get areThere(): boolean {
    return Object.keys(this.options.pages).every((path) => this.files.has(path));
  }

  /** Adds the routes. Call it before the app listens. */
  serve(fastify: FastifyInstance): void {
    for (const [path, file] of this.files) fastify.get(path, (request, reply) => answer(file, request, reply));
    const assets = join(this.options.directory, 'assets');
    if (!existsSync(assets)) return;
    void fastify.register(fastifyStatic, {
      root: assets,
      prefix: '/assets/',
      decorateReply: false,
      index: false,
      // A build may put `x.js.br` and `x.js.gz` beside `x.js`.
      preCompressed: true,
      cacheControl: false,
      setHeaders: (reply) => {
        reply.headers({ 'cache-control': 'public, max-age=31536000, immutable', vary: 'Accept-Encoding' });
      },
    });
  }

  /**
   * Answers a request that no route takes with the page that navigates by itself, where a browser looks for a page.
   *
   * @returns whether it has answered.
   */
  fallBack(request: FastifyRequest, reply: FastifyReply): boolean {
    const { method, headers } = request;
    const path = request.url.split('?', 1)[0]!;
    const file = this.files.get(this.options.fallback ?? '');
    if (!file || !['GET', 'HEAD'].includes(method) || notPages.test(path)) return false;
    if (!headers.accept?.includes('text/html')) return false;
    void answer(file, request, reply);
    return true;
  }
}

function fileAt(directory: string, name: string): StaticFile {
  const content = readFileSync(join(directory, name));
  return {
    content,
    mediaType: mediaTypes[extname(name)]!,
    entityTag: `"${createHash('sha256').update(content).digest('base64url').slice(0, 22)}"`,
  };
}

function answer({ content, mediaType, entityTag }: StaticFile, { headers }: FastifyRequest, reply: FastifyReply) {
  void reply.headers({ ...headersOfPage, etag: entityTag });
  const isKnown = headers['if-none-match']?.split(',').some((tag) => tag.trim().replace(/^W\//, '') === entityTag);
  return isKnown ? reply.status(304).send() : reply.type(mediaType).send(content);
}
