// Dark or light: what the user chose here, else what the system says. Loaded before the page is drawn, so nothing flashes.
const root = document.documentElement
const system = matchMedia('(prefers-color-scheme: dark)')

function apply() {
  const dark = localStorage.theme ? localStorage.theme === 'dark' : system.matches
  root.dataset.theme = dark ? 'dark' : 'light'
  root.classList.toggle('dark-mode', dark) // the name Swagger UI knows
  dispatchEvent(new Event('theme'))
}

function toggle() {
  localStorage.theme = root.dataset.theme === 'dark' ? 'light' : 'dark'
  apply()
}

system.addEventListener('change', apply)
addEventListener('click', event => event.target.closest?.('[data-act=theme]') && toggle())
apply()
