import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { SigningKey } from '@app/domain-connect';
import { portOf } from '@app/runtime';
import { Webhook } from 'standardwebhooks';
import { allApps, startSystem, type ApiClient, type System } from '../support/processes';
import { chromiumIsInstalled, picture, startChromium, violations } from '../support/browser';
import { keyboard, mouse, type Hands } from './hands';

const root = resolve(__dirname, '../..');
const built = (name: string) => readFileSync(join(root, 'dist/web', name));

it('the setup page weighs a quarter of what it may, with all that it loads', () => {
  const page = built('setup.html').toString();
  const loaded = [...page.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map(([, name]) => name!);
  expect(loaded.some((name) => name.endsWith('.js')) && loaded.some((name) => name.endsWith('.css'))).toBe(true);
  const octets = [gzipSync(page), ...loaded.map((name) => gzipSync(built(name)))].reduce(
    (sum, { length }) => sum + length,
    0,
  );
  console.log(`The setup page: ${octets} octets, of 120,000 that it may have.`);
  expect(octets).toBeLessThan(30_000);
});

it('the picture of the README is a small one', () => {
  expect(statSync(join(root, 'docs/images/setup-page.png')).size).toBeLessThan(150_000);
});

(chromiumIsInstalled() ? describe : describe.skip)('the pages in a real Chromium', () => {
  let system: System;
  let browser: Browser;
  let origin: string;
  let sandboxUrl: string;
  let team: { id: string; key: string; api: ApiClient };
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-pages-'));
  const contexts: BrowserContext[] = [];
  /** What pages have said in their consoles, and faults that they did not catch. */
  const said: string[] = [];

  beforeAll(async () => {
    const keyFile = join(directory, 'domain-connect-key.pem');
    SigningKey.open(keyFile);
    [system, browser] = await Promise.all([
      startSystem({
        apps: [...allApps, 'webhooks'],
        together: ['gateway', 'provisioning', 'notifier', 'webhooks'],
        env: (port) => ({
          VERIFICATION_INTERVAL: '2s',
          RATE_LIMIT_PER_MINUTE: '100000',
          DOMAIN_CONNECT_PROVIDERS: `127.0.0.1:${portOf('sandbox', port)}`,
          DOMAIN_CONNECT_KEY_FILE: keyFile,
          DOMAIN_CONNECT_LOOPBACK: 'true',
        }),
      }),
      startChromium(),
    ]);
    origin = `http://127.0.0.1:${system.port}`;
    sandboxUrl = `http://127.0.0.1:${portOf('sandbox', system.port)}`;
    team = await system.team({ name: 'Acme', owners: ['ada@acme.example'] });
    await system.sandbox.set('acme.com', 'NS', ['ada.ns.cloudflare.com', 'bob.ns.cloudflare.com']);
  });
  afterAll(async () => {
    await browser?.close();
    await system?.end();
    rmSync(directory, { recursive: true });
  });
  beforeEach(() => void (said.length = 0));
  afterEach(async () => {
    await Promise.all(contexts.splice(0).map((context) => context.close()));
    expect(said).toEqual([]);
  });

  /** Opens a page of somebody who has no session yet. */
  async function newPage(url: string, options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    contexts.push(context);
    const page = await context.newPage();
    page.on('pageerror', (error) => said.push(`${page.url()}: ${error.message}`));
    page.on('console', (message) => {
      // What the API refuses is told by the browser too.
      if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) said.push(message.text());
    });
    page.on('dialog', (dialog) => {
      said.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    await page.goto(url);
    return page;
  }
  const heading = (page: Page, name: string | RegExp) => page.getByRole('heading', { level: 1, name }).waitFor();
  const status = (page: Page, words: string) =>
    page.locator('#status .badge', { hasText: words }).waitFor({ timeout: 60_000 });
  async function signIn(page: Page, hands: Hands = mouse, key = team.key): Promise<void> {
    await hands.enter(page, 'API key', key);
    await hands.press(page, 'button', 'Sign in');
    await page.getByRole('button', { name: 'Sign out' }).waitFor();
  }
  async function readmePicture(setup: Page): Promise<void> {
    await setup.getByText('Last checked').waitFor();
    await setup.setViewportSize({ width: 1000, height: 1000 });
    await setup.evaluate('scrollTo(0, 0)');
    await setup.screenshot({ path: join(root, 'test-results/pages/readme.png') });
  }
  /** Adds a domain; `whole` is the answer, as the sandbox places it. */
  async function add(name: string): Promise<{ id: string; whole: object }> {
    const { body } = (await team.api.add(name)) as { body: { data: { id: string } } };
    return { id: body.data.id, whole: body };
  }
  async function linkTo(domain: string): Promise<{ id: string; url: string }> {
    const answer = await team.api.call('POST', `/domains/${domain}/setup-link`, {});
    return (answer as { body: { data: { id: string; url: string } } }).body.data;
  }
  /** Adds a domain, and opens its setup page. */
  async function setUp(name: string): Promise<{ id: string; url: string; page: Page }> {
    const { id } = await add(name);
    const { url } = await linkTo(id);
    return { id, url, page: await newPage(url) };
  }

  // Both wait for the cycle most of the time, so they do it together.
  it('serve the whole life of a domain, by mouse and by keyboard alone', async () => {
    const faults: string[] = [];
    await Promise.all(
      [mouse, keyboard].map(async (hands) => {
        const name = `${hands === mouse ? 'mail' : 'keys'}.acme.com`;
        // Of a team of its own: owners get one mail for all domains of a team that fail together.
        const owner = await system.team({
          name: hands.words,
          owners: [`${hands === mouse ? 'ada' : 'bob'}@acme.example`],
        });
        const console = await newPage(`${origin}/`);
        await signIn(console, hands, owner.key);
        await heading(console, 'Domains');

        // What an add changes is shown before anything is done.
        await hands.press(console, 'link', 'Add a domain');
        await hands.enter(console, 'Domain', name);
        await hands.press(console, 'button', 'See what it changes');
        await console.getByRole('heading', { name: `${name} now` }).waitFor();
        expect((await owner.api.list(`?name=${name}`)).body).toMatchObject({ data: [] });
        await picture(console, `life ${hands.words} 1-preflight`);
        await hands.press(console, 'button', 'Add this domain');
        await heading(console, name);
        await status(console, 'Pending');

        // Somebody without a session opens the link, and places the records.
        await hands.press(console, 'button', 'Make a link');
        const url = (await console.locator('#setup ~ .note .value').textContent())!;
        expect(url).toMatch(/\/setup#smx_setup_/);
        const setup = await newPage(url);
        await heading(setup, `Set up ${name} for mail`);
        expect(setup.url()).toBe(`${origin}/setup`);
        await status(setup, 'Pending');
        await hands.press(setup, 'button', 'All records as text');
        const text = (await setup.getByRole('group', { name: 'All records as text' }).textContent())!;
        await picture(setup, `life ${hands.words} 2-setup`);
        if (hands === mouse) await readmePicture(setup);

        const sandbox = await newPage(sandboxUrl);
        await hands.enter(sandbox, 'Zone file (BIND)', text);
        await hands.press(sandbox, 'button', 'Publish all');
        await sandbox.getByRole('rowheader', { name: `_dmarc.${name}` }).waitFor();

        // It turns green by itself, here and there.
        await status(setup, 'Verified');
        await status(console, 'Verified');
        await picture(setup, `life ${hands.words} 3-verified`);

        // A record breaks: both say so, and the owner is mailed.
        await hands.press(sandbox, 'button', `Delete MX ${name}`);
        await status(console, 'Failed');
        await status(setup, 'Failed');
        await setup.locator(`li[data-status="missing"]`).first().waitFor();
        await picture(setup, `life ${hands.words} 4-failed`);
        if (hands === mouse) {
          faults.push(...(await violations(setup, 'setup failed')), ...(await violations(console, 'domain failed')));
          await console.setViewportSize({ width: 1280, height: 800 });
        }
        await hands.press(sandbox, 'button', new RegExp(`^Read mail \\d+: .*${name.replaceAll('.', '\\.')}`));
        await sandbox.getByLabel('Text of the mail').getByText('mail.sendmux.ai').first().waitFor();

        // It is deleted, with the records to remove; the link opens nothing any more.
        await hands.press(console, 'button', 'Delete this domain');
        await console.getByRole('dialog').waitFor();
        await hands.press(console, 'button', 'Delete it');
        await heading(console, `${name} is deleted`);
        await console.getByRole('rowheader', { name: `_dmarc.${name}` }).waitFor();
        await picture(console, `life ${hands.words} 5-deleted`);
        if (hands === mouse) faults.push(...(await violations(console, 'domain deleted')));
        await heading(setup, 'This link does not work');
      }),
    );
    expect(faults).toEqual([]);
  });

  it('have no serious fault of accessibility in any state, and fit a phone and a desk, light and dark', async () => {
    const faults: string[] = [];
    const look = async (page: Page, state: string): Promise<void> =>
      void faults.push(...(await violations(page, state)));

    const console = await newPage(`${origin}/`);
    await heading(console, 'Sign in');
    await look(console, 'sign in');
    await mouse.enter(console, 'API key', 'smx_root_wrong');
    await mouse.press(console, 'button', 'Sign in');
    await console.getByRole('alert').waitFor();
    await look(console, 'sign in refused');

    const empty = await system.team({ name: 'Empty' });
    await signIn(console, mouse, empty.key);
    await console.getByText('Your team has no domain yet').waitFor();
    await look(console, 'domains none');
    await mouse.press(console, 'button', 'Sign out');
    await console.getByText('You are signed out').waitFor();

    const reader = await system.team({ name: 'Reader', grant: { permissions: ['mailbox.read'] } });
    await signIn(console, mouse, reader.key);
    await console.getByText('would need the permission').waitFor();
    await look(console, 'domains not allowed');
    await mouse.press(console, 'button', 'Sign out');

    const { id, page: setup } = await setUp('looks.acme.com');
    const verified = await add('verified.acme.com');
    await system.sandbox.place(verified.whole);
    await team.api.verify(verified.id);
    await team.api.call('POST', '/mailboxes', { email: 'ada@verified.acme.com' });
    await heading(setup, 'Set up looks.acme.com for mail');
    await setup.getByText('Last checked').waitFor();
    await look(setup, 'setup pending');
    await signIn(console);
    await console.getByRole('link', { name: 'looks.acme.com' }).waitFor();
    await look(console, 'domains');
    await mouse.press(console, 'link', 'Add a domain');
    await mouse.enter(console, 'Domain', 'looks.acme.com');
    await mouse.press(console, 'button', 'See what it changes');
    await console.getByRole('link', { name: 'Open it' }).waitFor();
    await empty.api.add('taken.acme.com');
    await mouse.enter(console, 'Domain', 'taken.acme.com');
    await mouse.press(console, 'button', 'See what it changes');
    await console.getByRole('button', { name: 'Claim this domain' }).waitFor();
    await look(console, 'add taken');
    const listOfDomains = /\/api\/v1\/domains(\?|$)/;
    const answer = { status: 500, contentType: 'application/json' };
    const error = { code: 'internal_error', message: 'Something failed on our side.', retryable: true };
    const body = JSON.stringify({ ok: false, error, meta: { request_id: 'req_cl0mx1yd32u54wj0ye9x4gujkkq' } });
    await console.route(listOfDomains, (route) => route.fulfill({ ...answer, body }));
    await console.goto(`${origin}/`);
    await console.getByText('req_cl0mx1yd32u54wj0ye9x4gujkkq').waitFor();
    await look(console, 'domains error');
    await console.unroute(listOfDomains);
    let goOn: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (goOn = resolve));
    await console.route(listOfDomains, (route) => held.then(() => route.continue()));
    await console.goto(`${origin}/`);
    await console.getByText('Reading …').waitFor();
    await look(console, 'domains loading');
    goOn();
    await console.getByRole('link', { name: 'looks.acme.com' }).waitFor();
    await console.unroute(listOfDomains);
    await console.goto(`${origin}/domains/${id}`);
    await console.getByText('In the zone').waitFor();
    await mouse.press(console, 'button', 'Verify now');
    await console.getByText('What is changed now').waitFor();
    await mouse.press(console, 'button', 'Make a link');
    await console.getByText('Hand it to nobody but').waitFor();
    await mouse.press(console, 'button', 'Show what happened');
    await mouse.press(console, 'button', 'as it was then, after step 2');
    await console.getByRole('region', { name: /^As it was/ }).waitFor();
    await look(console, 'domain pending');
    await mouse.press(console, 'button', 'Delete this domain');
    await console.getByRole('dialog').waitFor();
    await look(console, 'domain confirm');
    await mouse.press(console, 'button', 'Cancel');
    await console.goto(`${origin}/domains/${verified.id}`);
    await status(console, 'Verified');
    await look(console, 'domain verified');
    for (const [place, words] of [
      ['mailboxes', 'ada@verified.acme.com'],
      ['keys', 'signed in with'],
      ['owners', 'ada@acme.example'],
      ['usage', 'requests a minute'],
      ['nowhere', 'There is nothing here'],
    ] as const) {
      await console.goto(`${origin}/${place}`);
      await console.locator('main').getByText(words).first().waitFor();
      await look(console, place);
    }

    const done = await newPage((await linkTo(verified.id)).url);
    await status(done, 'Verified');
    await look(done, 'setup verified');
    const bad = await newPage(`${origin}/setup`);
    await heading(bad, 'This link does not work');
    await look(bad, 'setup bad link');

    await system.sandbox.set('a.looks.acme.com', 'TXT', ['one', 'two']);
    await team.api.call('POST', `/domains/${id}/setup-instructions`, { email: 'dns@acme.com' });
    const sandbox = await newPage(sandboxUrl);
    await sandbox.getByRole('rowheader', { name: 'a.looks.acme.com' }).waitFor();
    await sandbox
      .getByRole('button', { name: /^Read mail/ })
      .first()
      .click();
    await look(sandbox, 'sandbox');
    expect(faults).toEqual([]);
  });

  it('do in the console all that a key may, and say when its session is over', async () => {
    await system.sandbox.set('only.acme.com', 'MX', ['1 aspmx.l.google.com']);
    const console = await newPage(`${origin}/domains/new`);
    await signIn(console);
    await mouse.enter(console, 'Domain', 'only.acme.com');
    await console.getByRole('radio', { name: /Send only/ }).check();
    await mouse.press(console, 'button', 'See what it changes');
    await console.getByText('1 aspmx.l.google.com').waitFor();
    await mouse.press(console, 'button', 'Add this domain');
    await heading(console, 'only.acme.com');

    // Who is mailed the instructions opens the link in the mail.
    await mouse.enter(console, 'Mail it to', 'dns@acme.com');
    await mouse.press(console, 'button', 'Mail instructions');
    await console.getByText('A link with all records is on its way').waitFor();
    const mail = await system.until('the mail is there', async () =>
      (await system.sandbox.mails('dns@acme.com')).find(({ text }) => text.includes('only.acme.com')),
    );
    const mailed = await newPage(/http\S+#smx_setup_\S+/.exec(mail.text)![0]);
    await mailed.getByText('It will send mail, and receive none here.').waitFor();
    await mouse.press(console, 'button', /^Revoke the link of/);
    await heading(mailed, 'This link does not work');

    await mouse.press(console, 'button', 'Let it receive mail');
    await mouse.press(console, 'button', 'Let it receive');
    await console.getByText('Send and receive', { exact: true }).waitFor();
    await console
      .getByText(/aspmx\.l\.google\.com/)
      .first()
      .waitFor();

    const boxes = await add('boxes.acme.com');
    await system.sandbox.place(boxes.whole);
    await team.api.verify(boxes.id);
    await console.goto(`${origin}/domains/${boxes.id}`);
    await mouse.press(console, 'button', 'Show all of each record');
    await console.getByText('Amazon SES looks at it itself, and has found it.').first().waitFor();
    await mouse.enter(console, 'Sender', 'Partner.com');
    await mouse.press(console, 'button', 'Add the rule');
    await console.getByRole('rowheader', { name: 'partner.com' }).waitFor();
    // Rules that somebody else has changed meanwhile are shown, and not overwritten.
    const rules = [{ type: 'deny', pattern: 'spam.com', note: null }];
    await team.api.call('PUT', `/domains/${boxes.id}/filters`, { mode: 'denylist', rules });
    await mouse.press(console, 'button', 'Remove the rule about partner.com');
    await console.getByText('Somebody else has changed these rules meanwhile').waitFor();
    await mouse.press(console, 'button', 'Remove the rule about spam.com');
    await console.getByText('There are no rules').waitFor();

    // What has ended meanwhile is said to be gone, with what happened.
    const gone = await add('gone.acme.com');
    await console.goto(`${origin}/domains/${gone.id}`);
    await heading(console, 'gone.acme.com');
    await team.api.delete(gone.id);
    await heading(console, 'Your team has no such domain');
    await mouse.press(console, 'button', 'Show what happened');
    await console.getByText('The deletion of gone.acme.com was asked for').waitFor();

    await mouse.press(console, 'link', 'Mailboxes');
    await mouse.enter(console, 'Address', 'ada@boxes.acme.com');
    await mouse.press(console, 'button', 'Create');
    await mouse.press(console, 'button', 'Suspend ada@boxes.acme.com');
    await mouse.press(console, 'button', 'Resume ada@boxes.acme.com');
    await mouse.press(console, 'button', 'Delete ada@boxes.acme.com');
    await mouse.press(console, 'button', 'Delete it');
    await console.getByRole('rowheader', { name: 'ada@boxes.acme.com' }).waitFor({ state: 'detached' });

    await mouse.press(console, 'link', 'Owners');
    await mouse.enter(console, 'Address', 'grace@acme.example');
    await mouse.press(console, 'button', 'Invite');
    await console.getByText('invited until').waitFor();

    await mouse.press(console, 'link', 'API keys');
    await mouse.enter(console, 'What it is for', 'Reading');
    await mouse.press(console, 'button', 'Create');
    const key = (await console.locator('.note .value').textContent())!;
    const reader = await newPage(`${origin}/domains/${boxes.id}`);
    await signIn(reader, mouse, key);
    await status(reader, 'Verified');
    expect(await reader.getByRole('button', { name: 'Delete this domain' }).count()).toBe(0);
    await mouse.press(console, 'button', /^Revoke Reading/);
    await mouse.press(console, 'button', 'Revoke it');
    await reader.getByText('Your session has ended').waitFor();
    await signIn(reader);
    await heading(reader, 'boxes.acme.com');
  });

  it('claim a domain that others have added, and give it to who proves it', async () => {
    const squatter = await system.team({ name: 'Squatter', owners: ['sam@squat.example'] });
    await squatter.api.add('claimed.acme.com');
    const console = await newPage(`${origin}/domains/new`);
    await signIn(console);
    await mouse.enter(console, 'Domain', 'claimed.acme.com');
    await mouse.press(console, 'button', 'See what it changes');
    await mouse.press(console, 'button', 'Claim this domain');
    await heading(console, 'Claims');
    await console.getByRole('heading', { name: 'claimed.acme.com' }).waitFor();
    expect(await violations(console, 'claims')).toEqual([]);
    await mouse.press(console, 'button', 'Check now');
    await console.locator('.note.wait').waitFor();

    const card = console.getByRole('listitem').filter({ hasText: 'claimed.acme.com' });
    const [name, value] = await card.locator('dd .value').allTextContents();
    await system.sandbox.set(name!, 'TXT', [value!]);
    await mouse.press(console, 'button', 'Check now');
    await console.getByText('Yours now').waitFor();
    await mouse.press(console, 'link', 'Open the domain');
    await heading(console, 'claimed.acme.com');
    await system.until(
      'the other team has it no more',
      async () => ((await squatter.api.list()) as { body: { data: unknown[] } }).body.data.length === 0,
    );
  });

  it('make a webhook, show what it got, test it, replay to it and rotate its secret', async () => {
    const received: { id: string; type: string; replay?: string }[] = [];
    const secrets: string[] = [];
    let status = 200;
    const receiver = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const body = Buffer.concat(parts).toString();
        const headers = request.headers as Record<string, string>;
        // Whoever has any of the secrets verifies it.
        const event = secrets.map((secret) => new Webhook(secret).verify(body, headers))[0] as { type: string };
        received.push({ id: headers['webhook-id']!, type: event.type, replay: headers['webhook-replay'] });
        response.writeHead(status).end('<b>thanks</b>\u202e');
      });
    });
    await new Promise<void>((ready) => receiver.listen(0, '127.0.0.1', ready));
    const target = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
    const console = await newPage(`${origin}/webhooks`);
    try {
      await signIn(console);
      await console.getByText('There is no webhook yet').waitFor();
      expect(await violations(console, 'webhooks none')).toEqual([]);
      await mouse.enter(console, 'Send to', 'http://169.254.169.254/latest');
      await mouse.press(console, 'button', 'Create');
      await console.getByRole('alert').waitFor();
      await mouse.enter(console, 'Send to', target);
      await mouse.enter(console, 'What it is for', 'the ledger');
      await console.getByLabel('Tell of everything').uncheck();
      await console.getByText('Choose at least one').waitFor();
      await console.getByLabel('A domain is added').check();
      await mouse.press(console, 'button', 'Create');
      const secret = await console.locator('.note.good .value').textContent();
      secrets.push(secret!);
      expect(await violations(console, 'webhooks')).toEqual([]);

      await add('hooked.acme.com');
      await system.until('the message is there', () => received.length === 1);
      expect(received[0]!.type).toBe('domain.created');
      await mouse.press(console, 'link', target);
      await heading(console, target);
      await console.locator('.badge', { hasText: 'Delivered' }).first().waitFor();
      await mouse.press(console, 'button', /^Details of domain.created/);
      await console.getByText('hooked.acme.com').first().waitFor();
      await console.getByText('<b>thanks</b>').waitFor();
      expect(await violations(console, 'webhook')).toEqual([]);

      await mouse.press(console, 'button', 'Send a test');
      await system.until('the test is there', () => received.length === 2);
      status = 500;
      await mouse.press(console, 'button', /^Send again domain.created/);
      await system.until('it is there again', () => received.length === 3);
      expect(received[2]).toMatchObject({ id: received[0]!.id });
      status = 200;
      await mouse.enter(console, 'From', new Date(Date.now() - 86_400_000).toISOString().slice(0, 19));
      await mouse.press(console, 'button', 'Replay');
      await console.locator('.badge', { hasText: 'Completed' }).waitFor({ timeout: 60_000 });
      const replayed = received.filter(({ replay }) => replay !== undefined);
      expect(replayed.map(({ id }) => id)).toContain(received[0]!.id);

      await mouse.press(console, 'button', 'Rotate the secret');
      await console.getByRole('dialog').waitFor();
      await mouse.press(console, 'button', 'Rotate it');
      const second = await console.locator('.note.good .value').textContent();
      expect(second).not.toBe(secret);
      secrets.push(second!);
      const before = received.length;
      await mouse.press(console, 'button', 'Send a test');
      await system.until('both secrets verify it', () => received.length > before);
      await mouse.press(console, 'button', 'Disable');
      await console.getByText('A replay brings').waitFor();
      expect(await violations(console, 'webhook disabled')).toEqual([]);
      await mouse.press(console, 'button', 'Delete the webhook');
      await console.getByRole('dialog').waitFor();
      await mouse.press(console, 'button', 'Delete it');
      await console.getByText('There is no webhook yet').waitFor();
    } finally {
      receiver.close();
      receiver.closeAllConnections();
    }
  });

  it('show hostile zones as text, cut, and in their place', async () => {
    const { id, page } = await setUp('h.acme.com');
    const markup = '<img src=x onerror=alert(1)><script>alert(2)</script>';
    const many = (count: number, value: (i: number) => string) => Array.from({ length: count }, (_, i) => value(i));
    await system.sandbox.set('h.acme.com', 'TXT', [markup, `v=spf1 \u202egro.live\u202c ${markup} -all`]);
    await system.sandbox.set('_dmarc.h.acme.com', 'TXT', [`v=DMARC1; p=none; ${'x'.repeat(60_000)}`]);
    await system.sandbox.set(
      '_sendmux.h.acme.com',
      'TXT',
      many(1_400, (i) => `t${i}`),
    );
    await system.sandbox.set(
      'h.acme.com',
      'MX',
      many(900, (i) => `${i} m${i}.acme.com`),
    );
    await team.api.verify(id);
    await page.reload();
    await page.getByText('Replace the TXT record').first().waitFor();
    await page.locator('.value', { hasText: '<img src=x' }).first().waitFor();

    const console = await newPage(`${origin}/domains/${id}`);
    await signIn(console);
    await console.getByText('Replace the TXT record').first().waitFor();
    const faults: string[] = [];
    for (const [shown, name] of [
      [page, 'setup hostile'],
      [console, 'domain hostile'],
    ] as const) {
      expect(await shown.locator('main img, main script').count()).toBe(0);
      const text = await shown.locator('main').innerText();
      expect(text).toContain(markup);
      expect(text).not.toContain('\u202e');
      expect(text.length).toBeLessThan(60_000);
      // What is cut can be seen, and then stays in its place as well.
      const button = shown.getByRole('button', { name: /^Show all [\d,]+ characters$/ }).first();
      await button.click();
      await shown.getByRole('group', { name: 'The whole value' }).first().waitFor();
      faults.push(...(await violations(shown, name)));
    }
    expect(faults).toEqual([]);
  });

  it('keep the token out of every address, and take all bad tokens alike', async () => {
    const { id, url, page } = await setUp('token.acme.com');
    const secret = url.split('#smx_setup_')[1]!;
    await heading(page, 'Set up token.acme.com for mail');
    expect(page.url()).toBe(`${origin}/setup`);
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url(), request.headers().referer ?? ''));
    await page.reload();
    await heading(page, 'Set up token.acme.com for mail');
    await mouse.press(page, 'button', 'Route 53');
    await page.getByText(/is downloaded/).waitFor();
    await page.waitForRequest(/plan=false/);
    await page.context().setOffline(true);
    await page.getByText('The service cannot be reached').waitFor();
    await page.context().setOffline(false);
    await page.getByText('The service cannot be reached').waitFor({ state: 'detached' });
    expect(asked.filter((each) => each.includes('smx_setup_'))).toEqual([]);
    expect(asked.filter((each) => each.startsWith('http') && !each.startsWith(origin))).toEqual([]);
    expect(asked.some((each) => each.includes('/api/v1/setup'))).toBe(true);
    expect(system.log('gateway')).not.toContain(secret);
    // Another tab has no token of this one.
    expect(await (await newPage(`${origin}/setup`)).evaluate('sessionStorage.length')).toBe(0);

    const revoked = await linkTo(id);
    await team.api.call('DELETE', `/domains/${id}/setup-links/${revoked.id}`);
    const ofDeleted = await setUp('token-deleted.acme.com');
    await team.api.delete(ofDeleted.id);
    const bad = [revoked.url, ofDeleted.url, `${url.slice(0, -1)}${url.endsWith('a') ? 'b' : 'a'}`];
    const answers: { readonly status: number; readonly error: unknown; readonly text: string }[] = [];
    for (const each of bad) {
      const shown = await newPage(each);
      await heading(shown, 'This link does not work');
      const text = await shown.locator('main').innerText();
      const authorization = `Bearer ${each.split('#')[1]}`;
      const answer = await fetch(`${origin}/api/v1/setup`, { headers: { authorization } });
      const { error } = (await answer.json()) as { error: unknown };
      answers.push({ status: answer.status, error, text });
    }
    expect(answers[0]!.status).toBe(404);
    expect(answers).toEqual(bad.map(() => answers[0]));
  });

  /** Opens a page on a processor that is four times slower, and measures it once its content is there. */
  async function painted(address: string, content: string): Promise<Measured> {
    const page = await newPage('about:blank');
    const debug = await page.context().newCDPSession(page);
    await debug.send('Emulation.setCPUThrottlingRate', { rate: 4 });
    await page.goto(address);
    await page.locator(content).first().waitFor();
    await page.waitForTimeout(300);
    const measured = await page.evaluate<Measured>(measure);
    // A page on a slowed processor keeps a real one busy for as long as it is open.
    await page.close();
    return measured;
  }

  it('are painted within a second on a processor four times slower, and do not jump', async () => {
    const { url } = await setUp('fast.acme.com');
    for (const [name, address, content] of [
      ['setup', url, '#status'],
      ['console', `${origin}/`, '#api-key'],
      ['sandbox', sandboxUrl, '#zone'],
    ] as const) {
      let best: Measured = { paint: Infinity, jumps: Infinity };
      let limit = 1_000;
      // A machine that is busy with other tests paints later: the best of some is what the page needs.
      for (let i = 0; i < 6 && !isGood(best, limit); i++) {
        // One that is so busy that a page of text alone takes long is allowed four times that.
        limit = Math.max(limit, 4 * (await painted(`${origin}/api/v1/errors`, 'h1')).paint);
        const measured = await painted(address, content);
        if (measured.paint < best.paint) best = measured;
      }
      const { paint, jumps } = best;
      global.console.log(`${name}: first paint after ${Math.round(paint)} of ${Math.round(limit)} ms, jumps ${jumps}`);
      expect(isGood(best, limit)).toBe(true);
    }
  });

  it('look by themselves when the DNS can show a change, and not before', async () => {
    await system.stop('verification-scheduler');
    const { page, id, url } = await setUp('alone.acme.com');
    await page.getByRole('button', { name: /^Check again in \d+ min/ }).waitFor();
    expect(await page.getByRole('button', { name: /^Check again in/ }).isDisabled()).toBe(true);
    const later = await newPage('about:blank');
    await later.clock.install();
    await later.goto(url);
    await later.getByRole('button', { name: /^Check again in \d+ min/ }).waitFor();

    const whole = await team.api.get(id);
    await system.sandbox.place(whole.body);
    await later.clock.runFor(20_000);
    await status(later, 'Pending');
    await later.clock.runFor(6 * 60_000);
    await status(later, 'Verified');
    await status(page, 'Verified');

    // Who knows better need not wait.
    await system.sandbox.remove(whole.body);
    await team.api.verify(id);
    await status(page, 'Pending');
    await system.sandbox.place(whole.body);
    await mouse.press(page, 'button', 'Check anyway');
    await status(page, 'Verified');

    // Where no resolver answers, it says so for longer than until the next read, and goes on by itself.
    await system.sandbox.remove(whole.body);
    await team.api.verify(id);
    await status(page, 'Pending');
    for (const resolver of ['doh-a', 'doh-b'] as const) await system.sandbox.fault(resolver, { mode: 'http_500' });
    await mouse.press(page, 'button', 'Check anyway');
    const alert = page.getByRole('alert');
    await alert.getByText('Request').waitFor();
    await page.waitForResponse(/plan=false/);
    await page.waitForResponse(/plan=false/);
    expect(await alert.isVisible()).toBe(true);
    await system.sandbox.allWell();
    await mouse.press(page, 'button', /^Check (anyway|now)$/);
    await alert.waitFor({ state: 'detached' });

    // Nor does who comes back from one click at the DNS provider.
    await system.sandbox.remove(whole.body);
    await team.api.verify(id);
    await status(page, 'Pending');
    await mouse.press(page, 'link', 'Set it up at Sandbox DNS');
    await page.getByRole('button').click();
    await status(page, 'Verified');
    expect(page.url()).toBe(`${origin}/setup`);
    await system.start('verification-scheduler');
  });
});

interface Measured {
  readonly paint: number;
  readonly jumps: number;
}
/** Below these, a page is fast and steady: the limit in milliseconds, and what web.dev calls a good sum of shifts. */
const isGood = ({ paint, jumps }: Measured, limit: number): boolean => paint < limit && jumps < 0.1;

/** Gives the time of the first contentful paint in milliseconds, and the sum of layout shifts. */
const measure = `new Promise((done) => {
  let jumps = 0;
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput } of list.getEntries()) if (!hadRecentInput) jumps += value;
  }).observe({ type: 'layout-shift', buffered: true });
  const paint = performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity;
  setTimeout(() => done({ paint, jumps }), 100);
})`;
