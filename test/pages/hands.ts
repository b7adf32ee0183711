import type { Page } from 'playwright-core';

/** How a person uses a page. */
export interface Hands {
  readonly words: string;
  /** Presses a button or follows a link, by its name. */
  press(page: Page, role: 'button' | 'link', name: string | RegExp): Promise<void>;
  /** Enters a text into a field, instead of what is there. */
  enter(page: Page, label: string, text: string): Promise<void>;
}

export const mouse: Hands = {
  words: 'by mouse',
  press: (page, role, name) =>
    page
      .getByRole(role, { name, exact: typeof name === 'string' })
      .first()
      .click(),
  enter: (page, label, text) => page.getByLabel(label, { exact: true }).fill(text),
};

/** Names what has the focus, and says whether that is seen. */
const focused = `(() => {
  const element = document.activeElement;
  if (!element || element === document.body || /^H\\d$/.test(element.tagName)) return { role: '', name: '', seen: true };
  const label = element.labels?.[0]?.textContent;
  const name = (element.getAttribute('aria-label') ?? label ?? element.textContent ?? '').trim();
  const role = element.tagName === 'A' ? 'link' : element.tagName === 'BUTTON' ? 'button' : 'field';
  return { role, name, seen: getComputedStyle(element).outlineStyle !== 'none' };
})()`;
interface Focused {
  readonly role: string;
  readonly name: string;
  readonly seen: boolean;
}

/** How many times a person may press Tab for one thing. */
const patience = 150;

/** Goes by Tab to what has a name. @throws {Error} where it cannot be reached, or the focus is not seen on the way. */
async function reach(page: Page, role: string, name: string | RegExp): Promise<void> {
  const passed: string[] = [];
  for (let i = 0; i < patience; i++) {
    const at = await page.evaluate<Focused>(focused);
    if (!at.seen) throw new Error(`The focus is not seen on ${at.role} ${at.name}`);
    if (at.role === role && (typeof name === 'string' ? at.name === name : name.test(at.name))) return;
    passed.push(`${at.role} ${at.name}`);
    await page.keyboard.press('Tab');
  }
  throw new Error(`No Tab reaches ${role} ${String(name)}, but ${passed.slice(0, 40).join(', ')}`);
}

export const keyboard: Hands = {
  words: 'by keyboard alone',
  press: async (page, role, name) => {
    await page
      .getByRole(role, { name, exact: typeof name === 'string' })
      .first()
      .waitFor();
    await reach(page, role, name);
    await page.keyboard.press('Enter');
  },
  enter: async (page, label, text) => {
    await page.getByLabel(label, { exact: true }).waitFor();
    await reach(page, 'field', label);
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText(text);
  },
};
